import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { safetensorsChunks } from '../../src/files/safetensors.ts';
import type { UNet2DModel } from '../../src/models/index.ts';
import { startReference } from '../harness.ts';
import { LAMBDA, namedWeights } from '../unet-step.ts';
import { marginalTimes, type StepTimes } from './measure-steps.ts';

const bfloat16 = { dtype: 'bfloat16', tf32: true };
/** What torch can compute in on a GPU, by name. */
export const TORCH_PRECISIONS: Readonly<Record<string, object>> = {
  float32: {},
  TF32: { tf32: true },
  'TF32, channels last': { tf32: true, channels_last: true },
  bfloat16,
  'bfloat16, channels last': { ...bfloat16, channels_last: true },
  'bfloat16, channels last, compiled': { ...bfloat16, channels_last: true, compile: true },
};

export interface TorchSteps {
  /** The path of unet_reference.py. */
  readonly script: string;
  readonly model: UNet2DModel;
  readonly device: 'cpu' | 'cuda';
  readonly batch: number;
  /** Of the shorter run; the longer one has twice as many. */
  readonly steps: number;
  /** One of `TORCH_PRECISIONS`. */
  readonly precision: string;
}

/** Times the same steps of torch, from the same weights. */
export async function measureTorchSteps({
  script,
  model,
  device,
  batch,
  steps,
  precision,
}: TorchSteps): Promise<StepTimes> {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  const reference = startReference(script);
  try {
    const weights = path.join(folder, 'weights.safetensors');
    await writeFileAtomic(weights, safetensorsChunks(namedWeights(model)));
    await reference.request({
      command: 'load',
      threads: availableParallelism(),
      lambda: LAMBDA,
      weights,
      config: model.config,
      batch,
      device,
      ...TORCH_PRECISIONS[precision],
    });
    const timed = async (count: number) => {
      const { seconds } = await reference.request<{ seconds: number }>({ command: 'run', count });
      return seconds * 1000;
    };
    // The first steps choose kernels, or compile them.
    await timed(5);
    const { stepMs } = await marginalTimes(timed, steps);
    // Its state stays on the card.
    return { stepMs, runMs: 0 };
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}
