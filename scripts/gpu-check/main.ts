/**
 * `npm run gpu-check`: whether this machine's GPU computes rightly, and how fast. Each measurement runs in a process of its
 * own. The results go to `--output` as gpu-check.json and gpu-check.md; the exit code is 1 where a value is above its limit
 * or a measurement fails. `--only gradients` measures a part, `--draw FOLDER` draws the pictures of a run of the kit.
 */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { cardName } from '../../bench/gpu/nvidia-smi.ts';
import { errorText, InvalidArgumentError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import { deviceReports } from '../../src/runtime/device.ts';
import { drawPictures } from './pictures.ts';
import { isAbove, markdown, type Outcome, shown } from './report.ts';
import type { Case, Section } from './section.ts';
import { againstCpuSection } from './sections/against-cpu.ts';
import { gradientsSection } from './sections/gradients.ts';
import { placementSection } from './sections/placement.ts';
import { samplingSection } from './sections/sampling.ts';
import { stepsSection } from './sections/steps.ts';
import { torchSection } from './sections/torch.ts';
import { trainingSection } from './sections/training.ts';

const SECTIONS: Readonly<Record<string, Section>> = {
  gradients: gradientsSection,
  'against-cpu': againstCpuSection,
  placement: placementSection,
  steps: stepsSection,
  torch: torchSection,
  sampling: samplingSection,
  training: trainingSection,
};

/** Of one measurement. */
const TIMEOUT_MS = 300_000;
/** The kit has the layout of the project, with this file at the same place. */
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const { values } = parseArgs({
  options: {
    output: { type: 'string', default: 'gpu-check-output' },
    device: { type: 'string', multiple: true },
    only: { type: 'string', multiple: true },
    quick: { type: 'boolean', default: false },
    draw: { type: 'string' },
    case: { type: 'string' },
  },
});

if (values.draw !== undefined) console.log((await drawPictures(values.draw)).join('\n'));
else if (values.case === undefined) process.exitCode = await checkAll();
else await measureOne(JSON.parse(values.case));

async function checkAll(): Promise<number> {
  const { output, quick, only = Object.keys(SECTIONS) } = values;
  const unknown = only.find((name) => !SECTIONS[name]);
  if (unknown) throw new InvalidArgumentError(`--only ${unknown}: use ${Object.keys(SECTIONS).join(', ')}`);
  const reports = await deviceReports();
  for (const { device, available, advice, float16 } of reports) {
    const limits = float16 ? '' : ', without float16, which is left out';
    console.log(`${device}: ${available ? `available${limits}` : `not available. ${advice}`}`);
  }
  const isWanted = (device: string) => values.device?.includes(device) ?? device !== 'cpu';
  const devices = reports.filter(({ device, available }) => available && isWanted(device)).map(({ device }) => device);
  if (devices.length === 0) {
    console.error('There is no GPU to check. For a trial on the cpu: npm run gpu-check -- --device cpu --quick');
    return 1;
  }
  await mkdir(output, { recursive: true });
  const outcomes: Outcome[] = [];
  const machine = {
    card: cardName() ?? 'unknown: nvidia-smi does not run',
    cpu: `${os.cpus()[0]?.model.trim()}, ${os.availableParallelism()} cores`,
    node: process.version,
    date: new Date().toISOString(),
    quick,
  };
  for (const name of only) {
    const section = SECTIONS[name] as Section;
    for (const choice of section.cases(devices, quick)) {
      const report = reports.find(({ device }) => device === choice.device);
      if (choice.precision === 'float16' && !report?.float16) continue;
      const given = { ...choice, section: name, quick, root: ROOT, output };
      const outcome = await inProcess(given);
      outcomes.push(outcome);
      console.log(summary(outcome));
      // Written each time: a machine may be taken away.
      await writeFileAtomic(path.join(output, 'gpu-check.json'), JSON.stringify({ machine, outcomes }, undefined, 2));
      await writeFileAtomic(path.join(output, 'gpu-check.md'), markdown(machine, outcomes, SECTIONS));
    }
  }
  await drawPictures(output).catch((error: unknown) =>
    console.log(`the pictures stay .npy files (${errorText(error)}): npm run gpu-check -- --draw ${output} draws them`),
  );
  return outcomes.some(({ failure, rows }) => failure !== undefined || rows.some(isAbove)) ? 1 : 0;
}

/** Runs the measurement in a process of its own. */
async function inProcess(given: Case): Promise<Outcome> {
  const start = performance.now();
  const script = fileURLToPath(import.meta.url);
  const args = [...process.execArgv, script, '--case', JSON.stringify(given)];
  const seconds = () => (performance.now() - start) / 1000;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    return { given, rows: JSON.parse(stdout.trim().split('\n').at(-1) ?? ''), seconds: seconds() };
  } catch (error) {
    return { given, rows: [], failure: reason(error), seconds: seconds() };
  }
}

/** The line of stderr that says why, else how the process ended. */
function reason(error: unknown): string {
  const { stderr = '', message, signal } = error as Error & { stderr?: string; signal?: string };
  const line = stderr.split('\n').find((text) => /^\w*Error\b/.test(text));
  return (line ?? (signal ? `ended by ${signal}` : message)).slice(0, 500);
}

async function measureOne(given: Case): Promise<void> {
  if (given.device === 'cuda') configureRuntime({ tf32: given.precision === 'TF32' });
  const rows = await SECTIONS[given.section]?.run(given);
  console.log(JSON.stringify(rows));
  // The threads of a driver may outlive their work.
  process.exit(0);
}

function summary({ given, rows, failure, seconds }: Outcome): string {
  const head = `${given.section} ${given.device} ${given.precision} batch ${given.batch} (${seconds.toFixed(0)} s)`;
  if (failure !== undefined) return `${head}: FAILED ${failure}`;
  const texts = rows.map((row) => `${row.what} ${shown(row.value)}${isAbove(row) ? ` ABOVE ${row.limit}` : ''}`);
  return `${head}: ${texts.join('; ')}`;
}
