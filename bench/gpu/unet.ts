import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { formatTable } from '../../src/cli/ui/table.ts';
import { errorText } from '../../src/errors.ts';
import { UNet2DModel, unet2DPreset } from '../../src/models/index.ts';
import type { ConcreteDevice } from '../../src/runtime/device.ts';
import { printRatio } from '../harness.ts';
import type { StepTimes } from './measure-steps.ts';
import { cardName, withPeakMemory } from './nvidia-smi.ts';
import type { OurSettings } from './ours.ts';
import { measureTorchSteps, TORCH_PRECISIONS } from './torch-steps.ts';

interface GpuBench {
  readonly device: ConcreteDevice;
  readonly batch: number;
  /** Steps of the shorter run; the longer one has twice as many. */
  readonly steps: number;
  /** A part of the names of the rows to measure; default all. */
  readonly only: string | undefined;
}

/** One row: a side with its precision. */
interface Variant {
  readonly name: string;
  readonly measure: () => Promise<StepTimes>;
}

interface Row {
  readonly name: string;
  readonly times: StepTimes | undefined;
  readonly peakBytes: number | undefined;
  readonly failure: string;
}

const REFERENCE = fileURLToPath(new URL('../unet_reference.py', import.meta.url));
const OURS = fileURLToPath(new URL('./ours.ts', import.meta.url));

/**
 * Training steps of the 35.7 M-parameter U-Net on a GPU, each precision of each side in a process of its own, one after
 * another: only then is the memory of the card that of one side, and TF32 is a setting of the process. A time is that of
 * one step more: a run of 2n steps less a run of n, over n. The memory is that of nvidia-smi, all of the process.
 */
export async function runOnGpu({ device, batch, steps, only = '' }: GpuBench): Promise<void> {
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
  const torch = (precision: string): Variant => ({
    name: `torch ${precision}`,
    measure: () =>
      measureTorchSteps({
        script: REFERENCE,
        model,
        device: device === 'cpu' ? 'cpu' : 'cuda',
        batch,
        steps,
        precision,
      }),
  });
  const variants = [...ours(device, batch, steps), ...Object.keys(TORCH_PRECISIONS).map(torch)];
  console.log(`${cardName() ?? 'no nvidia-smi: memory is not measured'}; batch ${batch}`);
  const rows: Row[] = [];
  for (const variant of variants.filter(({ name }) => name.includes(only))) {
    const row = await measured(variant);
    console.log(`${row.name}: ${row.times ? `${row.times.stepMs.toFixed(2)} ms a step` : row.failure}`);
    rows.push(row);
  }
  const columns = ['side and precision', 'ms a step', 'images/s', 'GiB', 'ms a run beside'];
  console.log(
    `\n${formatTable(
      columns,
      rows.map((row) => cells(row, batch)),
    )}`,
  );
  for (const precision of ['float32', 'TF32']) {
    const [mine, theirs] = ['ours', 'torch'].map((side) => rows.find(({ name }) => name === `${side} ${precision}`));
    if (mine?.times && theirs?.times)
      printRatio(`unet-step-${device}-${precision}`, theirs.times.stepMs / mine.times.stepMs);
  }
}

/** TF32 is of cuda alone. */
function ours(device: ConcreteDevice, batch: number, steps: number): Variant[] {
  const variant = (name: string, precision: Pick<OurSettings, 'tf32' | 'mixed_precision'>): Variant => ({
    name: `ours ${name}`,
    measure: () => timeOurs({ device, batch, steps, ...precision }),
  });
  const isCuda = device === 'cuda';
  return [
    variant('float32', { tf32: false }),
    ...(isCuda ? [variant('TF32', { tf32: true })] : []),
    variant('float16', { tf32: isCuda, mixed_precision: 'fp16' }),
  ];
}

/** What fails, such as a precision that this torch has not, is a row too. */
async function measured({ name, measure }: Variant): Promise<Row> {
  try {
    const [times, peakBytes] = await withPeakMemory(measure);
    return { name, times, peakBytes, failure: '' };
  } catch (error) {
    const [line = ''] = errorText(error).split('\n');
    return { name, times: undefined, peakBytes: undefined, failure: `failed: ${line.slice(0, 200)}` };
  }
}

function cells({ name, times, peakBytes }: Row, batch: number): string[] {
  if (!times) return [name, 'failed', '', '', ''];
  const { stepMs, runMs } = times;
  const memory = peakBytes === undefined ? '' : (peakBytes / 2 ** 30).toFixed(1);
  return [name, stepMs.toFixed(2), ((batch * 1000) / stepMs).toFixed(0), memory, runMs.toFixed(0)];
}

async function timeOurs(settings: OurSettings): Promise<StepTimes> {
  const args = ['--import', 'tsx', OURS, JSON.stringify(settings)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}
