import { measureSteps } from '../../../bench/gpu/measure-steps.ts';
import { withPeakMemory } from '../../../bench/gpu/nvidia-smi.ts';
import { UNet2DModel, unet2DPreset } from '../../../src/models/index.ts';
import { everyPrecision, mixedPrecision, type Section } from '../section.ts';

/** The time and the memory of training steps. */
export const stepsSection: Section = {
  title: 'Training steps',
  note: 'The 35.7 M-parameter U-Net `ddpm-cifar10` with iso loss, clipping, AdamW and EMA. A time is that of one step more: a run of 2n steps less one of n, over n. A run also copies the state to the device and back. Memory is that of the card, by nvidia-smi.',
  cases: (devices, quick) => (quick ? [2] : [64, 128, 256]).flatMap((batch) => everyPrecision(devices, batch)),
  async run({ device, precision, batch, quick }) {
    const model = new UNet2DModel(unet2DPreset(quick ? 'small' : 'ddpm-cifar10'));
    const steps = quick ? 2 : device === 'webgpu' ? 2 : 5;
    const [{ stepMs, runMs }, bytes] = await withPeakMemory(() =>
      measureSteps(model, device, batch, steps, mixedPrecision(precision)),
    );
    return [
      { what: 'a step, ms', value: stepMs },
      { what: 'images a second', value: (batch * 1000) / stepMs },
      { what: 'a run beside its steps, ms', value: runMs },
      ...(bytes === undefined ? [] : [{ what: 'memory of the card, GiB', value: bytes / 2 ** 30 }]),
    ];
  },
};
