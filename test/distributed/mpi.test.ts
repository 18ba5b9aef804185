import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { compiledScript } from '../compiled-script.ts';

// `npm run test:mpi`. These start mpirun, which Debian's openmpi-bin and libopenmpi-dev bring.
const isOpenMpi = /Open MPI/.test(spawnSync('mpirun', ['--version'], { encoding: 'utf8' }).stdout ?? '');
if (!isOpenMpi) console.warn('mpirun of Open MPI is not installed: the tests of MPI skip');
const MPIRUN = ['--oversubscribe', '--allow-run-as-root'];
const cli = path.join(inject('build'), 'bin/iso-diffusion.js');
const STEPS = 12;

let script: string;
let folder: string;
let unbroken: string[];
beforeAll(async () => {
  script = await compiledScript(new URL('./training-rank.ts', import.meta.url));
  folder = mkdtempSync(path.join(tmpdir(), 'iso-mpi-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Started {
  readonly child: ReturnType<typeof spawn>;
  /** What the processes have written so far. */
  output(): string;
  readonly ended: Promise<number | null>;
}

function start(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(command, args, { env: { ...process.env, NO_COLOR: '1', ...env } });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', resolve);
  });
  return { child, output: () => text, ended };
}

const program = (name: string, steps: number, batches: number, resume: readonly string[] = []) => [
  script,
  path.join(folder, name),
  String(steps),
  String(batches),
  ...resume,
];

/** On so many ranks; 1 is a process without mpirun. */
function startRanks(ranks: number, args: readonly string[], env: NodeJS.ProcessEnv = {}, mpi: readonly string[] = []) {
  if (ranks === 1) return start(process.execPath, args, env);
  return start('mpirun', [...MPIRUN, ...mpi, '-n', String(ranks), process.execPath, ...args], env);
}

async function run(...given: Parameters<typeof startRanks>) {
  const { ended, output } = startRanks(...given);
  const status = await ended;
  return { status, output: output() };
}

/** The digests that the ranks printed, each of them once. */
const digests = (output: string) => [...new Set(output.match(/(points|images) \d+ [0-9a-f]{64}/g))].sort();

/** Starts two ranks, and waits until they have saved a checkpoint. */
async function startAndWait(name: string, steps: number, mpi: readonly string[] = []): Promise<Started> {
  const started = startRanks(2, program(name, steps, 2), {}, mpi);
  while (!started.output().includes('saved')) {
    if (started.child.exitCode !== null) throw new Error(started.output());
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return started;
}

/** The process ids of the ranks that run. One that ended and was not collected has no command any more. */
function ranksOf(name: string): number[] {
  const all = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid));
  return all.map(Number).filter((pid) => {
    const [command = '', ...args] = commandOf(pid).split('\0');
    return command === process.execPath && args.includes(path.join(folder, name));
  });
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It ended since the folder was read.
    return '';
  }
}

/** Returns whether there was a rank to send it to. */
function signalLast(name: string, signal: NodeJS.Signals): boolean {
  const rank = ranksOf(name).at(-1);
  try {
    return rank !== undefined && process.kill(rank, signal);
  } catch {
    return false;
  }
}

describe.skipIf(!isOpenMpi)('ranks of mpirun', { timeout: 240_000 }, () => {
  beforeAll(async () => {
    const { output, status } = await run(1, program('1x4', STEPS, 4));
    expect(status, output).toBe(0);
    unbroken = digests(output);
    expect(unbroken).toHaveLength(2);
  }, 240_000);

  it.each([
    [2, 2],
    [4, 1],
  ])(
    '%i with %i batches each end with the bits of one process with four, points and a U-Net',
    async (ranks, batches) => {
      const name = `${ranks}x${batches}`;
      const { output, status } = await run(ranks, program(name, STEPS, batches));
      expect(status, output).toBe(0);
      expect(digests(output)).toEqual(unbroken);
      const without = (log: string) => log.replaceAll(/"steps_per_second":[^,}]*/g, '');
      for (const kind of ['points', 'images']) {
        const logs = ['1x4', name].map((each) => readFileSync(path.join(folder, each, kind, 'metrics.jsonl'), 'utf8'));
        expect(without(logs[1] ?? '')).toBe(without(logs[0] ?? ''));
      }
    },
  );

  it('are all ended when one is killed; the run goes on from the checkpoint, on one process and on four', async () => {
    let started = await startAndWait('killed', STEPS);
    // A machine that leaves this process no time can end the run before.
    for (let attempts = 1; !signalLast('killed', 'SIGKILL') && attempts < 5; attempts++) {
      await started.ended;
      rmSync(path.join(folder, 'killed'), { recursive: true });
      started = await startAndWait('killed', STEPS);
    }
    expect(await started.ended).not.toBe(0);
    await expect.poll(() => ranksOf('killed'), { timeout: 30_000 }).toEqual([]);
    cpSync(path.join(folder, 'killed'), path.join(folder, 'killed-1'), { recursive: true });
    for (const [name, ranks, batches] of [
      ['killed', 4, 1],
      ['killed-1', 1, 4],
    ] as const) {
      const { output, status } = await run(ranks, program(name, STEPS, batches, ['latest']));
      expect(status, output).toBe(0);
      expect(digests(output)).toEqual(unbroken);
    }
  });

  it.each(['mpirun', 'one rank'])('stop together when %s is interrupted, and save', async (whom) => {
    const name = `interrupted-${whom.replace(' ', '-')}`;
    // mpirun kills ranks that take longer than this to save, and waits as long for ranks that do not.
    const seconds = whom === 'mpirun' ? '10' : '1';
    const started = await startAndWait(name, 100_000, ['--mca', 'odls_base_sigkill_timeout', seconds]);
    expect(whom === 'mpirun' ? started.child.kill('SIGINT') : signalLast(name, 'SIGINT')).toBe(true);
    const status = await started.ended;
    // mpirun of Open MPI 4 has a status of its own where it was interrupted itself.
    expect(status).toBe(whom === 'mpirun' ? 1 : 130);
    const saved = Math.max(...(started.output().match(/saved (\d+)/g) ?? []).map((text) => Number(text.slice(6))));
    expect(readdirSync(path.join(folder, name, 'points'))).toContain(`checkpoint-${saved}`);
    if (whom === 'mpirun') expect(started.output()).toContain('interrupted: saving a checkpoint');
    await expect.poll(() => ranksOf(name), { timeout: 30_000 }).toEqual([]);
  });

  it('are refused before the first step when one has other arguments', async () => {
    const { output, status } = await run(2, program('other', STEPS, 2), { OTHER_RATE: '0.5' }, ['-x', 'OTHER_RATE']);
    expect(status).not.toBe(0);
    expect(output).toContain(
      'DistributedError: rank 1 was started with other arguments than rank 0: learning_rate is 0.5, on rank 0 0.003',
    );
    expect(existsSync(path.join(folder, 'other', 'points'))).toBe(false);
  });

  it('end together when the disk of rank 0 is full', async ({ skip }) => {
    const disk = path.join(folder, 'full');
    mkdirSync(disk);
    skip(
      spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]).status !== 0,
      'no small disk can be mounted',
    );
    try {
      const { output, status } = await run(2, program('full', STEPS, 2));
      expect(status).not.toBe(0);
      expect(output).toContain('ENOSPC');
      await expect.poll(() => ranksOf('full'), { timeout: 30_000 }).toEqual([]);
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  it('say what to install where libmpi is missing', async () => {
    const env = { ISO_DIFFUSION_MPI: '/nowhere/libmpi.so' };
    const { output, status } = await run(2, program('none', STEPS, 2), env, ['-x', 'ISO_DIFFUSION_MPI']);
    expect(status).not.toBe(0);
    expect(output).toContain('apt-get install openmpi-bin libopenmpi-dev');
    expect(output).toContain('/nowhere/libmpi.so');
  });

  it('say what to install where koffi is missing', async () => {
    const hide = path.join(folder, 'without-koffi.cjs');
    writeFileSync(
      hide,
      `const Module = require('node:module');
       const resolve = Module._resolveFilename;
       Module._resolveFilename = (name, ...rest) => {
         if (name === 'koffi') throw new Error("Cannot find module 'koffi'");
         return resolve.call(Module, name, ...rest);
       };`,
    );
    const { output, status } = await run(2, ['--require', hide, ...program('none', STEPS, 2)]);
    expect(status).not.toBe(0);
    expect(output).toContain(
      'DistributedError: koffi, through which this package calls MPI, is not installed: npm install koffi',
    );
  });

  it('draw the images of one process, and so do shares; their evaluation is its evaluation', async () => {
    const at = (name: string) => path.join(folder, 'drawn', name);
    const train = ['train', '--dataset', 'digits', '--n', '100', '--resolution', '8', '--max-steps', '2'];
    const made = await run(1, [cli, ...train, '--batch-size', '8', '--sample-every', '0', '--output', at('run')]);
    expect(made.status, made.output).toBe(0);
    const draw = ['--model', path.join(at('run'), 'pipeline'), '--n', '22', '--batch-size', '4', '--steps', '3'];
    const generate = (out: string, ...more: string[]) => [cli, 'generate', ...draw, '--out', at(out), ...more];
    await run(1, generate('one'));
    await run(2, generate('two'));
    for (const share of ['3/3', '1/3', '2/3']) await run(1, generate('shares', '--share', share));
    const images = (name: string) =>
      readdirSync(at(name)).map((file) => [file, readFileSync(path.join(at(name), file))]);
    expect(images('one')).toHaveLength(23);
    expect(images('two')).toEqual(images('one'));
    expect(images('shares')).toEqual(images('one'));
    const given = ['--real', 'digits', '--n-real', '300', '--fake', at('one'), '--extractor', 'raw-pixels'];
    const evaluate = (file: string) => {
      const args = [cli, 'evaluate', ...given, '--batch-size', '4', '--metrics', 'fid,prdc', '--json', at(file)];
      return [...args, '--cache-dir', at(`cache-${file}`)];
    };
    await run(1, evaluate('one.json'));
    await run(2, evaluate('two.json'));
    const [one, two] = ['one.json', 'two.json'].map((file) => JSON.parse(readFileSync(at(file), 'utf8')));
    expect(Math.abs(two.fid / one.fid - 1)).toBeLessThan(1e-10);
    expect({ ...two, fid: 0 }).toEqual({ ...one, fid: 0 });
  });

  it('draw and measure while they train what one process does', async () => {
    const program = await compiledScript(new URL('./evaluating-rank.ts', import.meta.url));
    const at = (name: string, ...file: string[]) => path.join(folder, 'evaluated', name, ...file);
    for (const [name, ranks, batches] of [
      ['one', 1, '2'],
      ['two', 2, '1'],
    ] as const) {
      const { output, status } = await run(ranks, [program, at(name), batches]);
      expect(status, output).toBe(0);
    }
    const names = readdirSync(at('one', 'evaluation')).sort();
    expect(names).toEqual(['metrics.jsonl', 'step-0000003.png', 'step-0000006.png', 'step-0000007.png']);
    expect(readdirSync(at('two', 'evaluation')).sort()).toEqual(names);
    const [one, two] = ['one', 'two'].map((name) => {
      const lines = readFileSync(at(name, 'evaluation', 'metrics.jsonl'), 'utf8')
        .trim()
        .split('\n');
      return lines.map((line) => JSON.parse(line));
    }) as [{ fid: number }[], { fid: number }[]];
    one.forEach(({ fid }, i) => {
      expect(Math.abs((two[i]?.fid ?? 0) / fid - 1)).toBeLessThan(1e-10);
    });
    const others = (records: { fid: number }[]) => records.map((record) => ({ ...record, fid: 0 }));
    expect(others(two)).toEqual(others(one));
    for (const name of names.slice(1))
      expect(readFileSync(at('two', 'evaluation', name))).toEqual(readFileSync(at('one', 'evaluation', name)));
    expect(readFileSync(at('two', 'best', 'best.json'), 'utf8')).toContain('"metric": "fid"');
  });

  it('run the commands of docs/distributed.md', { timeout: 400_000 }, async () => {
    const guide = readFileSync(fileURLToPath(new URL('../../docs/distributed.md', import.meta.url)), 'utf8');
    const blocks = [...guide.matchAll(/```bash\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
    const commands = blocks
      .flatMap((block) => block.trim().split('\n'))
      .filter((line) => line.includes('iso-diffusion'));
    expect(commands.length).toBeGreaterThan(10);
    const place = path.join(folder, 'guide');
    mkdirSync(place);
    for (const command of commands) {
      const quick = command
        .replace(
          '--dataset digits --epochs 20',
          '--dataset digits --n 40 --resolution 8 --max-steps 2 --sample-every 0',
        )
        .replace('--steps 20', '--steps 2')
        .replace('--preset smoke', '--preset smoke --epochs 1 --runs 1')
        .replace('--real digits ', '--real digits --n-real 300 ')
        .replace('mpirun', `mpirun ${MPIRUN.join(' ')}`)
        .replace('npx iso-diffusion', `${process.execPath} ${cli}`);
      const { status, stdout, stderr } = spawnSync('bash', ['-c', quick], { cwd: place, encoding: 'utf8' });
      expect(status, `${command}\n${stdout}${stderr}`).toBe(0);
    }
    expect(readdirSync(path.join(place, 'samples'))).toHaveLength(65);
    expect(readdirSync(path.join(place, 'runs', 'table-1'))).toContain('table-1.md');
  });

  it('are named by doctor', async () => {
    const { output } = await run(2, [cli, 'doctor']);
    expect(output).toMatch(/mpi: Open MPI v[\d.]+ \(libmpi\.so\S*\), rank 0 of 2/);
    expect(output).toContain('rank 1 of 2');
  });
});
