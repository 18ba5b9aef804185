import { createEngine } from '../../../bench/unet-step.ts';
import { UNet2DModel, unet2DPreset } from '../../../src/models/index.ts';
import type { ConcreteDevice } from '../../../src/runtime/device.ts';
import type { TrainingState } from '../../../src/trainers/step/update.ts';
import { everyPrecision, mixedPrecision, type Section } from '../section.ts';
import { relativeError } from './gradients.ts';

const STEPS = 3;
/** Relative, by norm. The first moment is the gradient of the last steps. */
const LIMIT: Readonly<Record<string, { readonly parameters: number; readonly first_moment: number }>> = {
  float32: { parameters: 1e-4, first_moment: 1e-3 },
  TF32: { parameters: 1e-3, first_moment: 1e-2 },
  float16: { parameters: 1e-3, first_moment: 1e-2 },
};

/** Whole training steps of a small U-Net, with clipping, AdamW and EMA, against the cpu in float32. */
export const againstCpuSection: Section = {
  title: 'Training steps against the cpu',
  note: `${STEPS} steps of a small U-Net at batch 4 from the same start with the same batches, relative difference to the cpu in float32, by norm. The first moment is the gradient of these steps.`,
  cases: (devices) => everyPrecision(devices, 4),
  async run({ device, precision, batch }) {
    const [expected, actual] = [await train('cpu', 'float32', batch), await train(device, precision, batch)];
    // onnxruntime adds up float16 products in float32 on cuda, in float16 on webgpu: 0.003 and 0.011 were seen on one card.
    const factor = device === 'webgpu' && precision === 'float16' ? 2 : 1;
    return (['parameters', 'first_moment'] as const).map((kind) => ({
      what: kind.replace('_', ' '),
      value: relativeError(vector(actual, kind), vector(expected, kind)),
      limit: (LIMIT[precision]?.[kind] ?? 0) * factor,
    }));
  },
};

const vector = (state: TrainingState, kind: 'parameters' | 'first_moment') => state.get(kind) ?? new Float32Array();

async function train(device: ConcreteDevice, precision: string, batch: number): Promise<TrainingState> {
  const model = new UNet2DModel({
    ...unet2DPreset('ddpm-cifar10'),
    sample_size: 16,
    block_out_channels: [32, 64, 64, 64],
  });
  const engine = await createEngine(model, batch, device, mixedPrecision(precision));
  for (let done = 0; done < STEPS; done++) await engine.run(done, 1);
  const state = await engine.state();
  await engine.release();
  return state;
}
