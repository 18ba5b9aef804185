import { withPeakMemory } from '../../../bench/gpu/nvidia-smi.ts';
import { measureTorchSteps, TORCH_PRECISIONS } from '../../../bench/gpu/torch-steps.ts';
import { requirePython } from '../../../bench/harness.ts';
import { UNet2DModel, unet2DPreset } from '../../../src/models/index.ts';
import type { Section } from '../section.ts';

/** The same steps by torch, on the same card. */
export const torchSection: Section = {
  title: 'The same steps by torch',
  note: 'Eager torch, or compiled where it says so, with the same network, loss, clipping, AdamW and EMA from the same weights, measured alike. `PYTHON` names the interpreter; without torch this is skipped.',
  cases: (_devices, quick) =>
    hasTorch()
      ? (quick ? ['float32'] : Object.keys(TORCH_PRECISIONS)).map((precision) => ({
          device: 'cuda' as const,
          precision,
          batch: quick ? 2 : 128,
        }))
      : [],
  async run({ precision, batch, quick, root }) {
    const model = new UNet2DModel(unet2DPreset(quick ? 'small' : 'ddpm-cifar10'));
    const script = `${root}bench/unet_reference.py`;
    const device = quick ? 'cpu' : 'cuda';
    const [{ stepMs }, bytes] = await withPeakMemory(() =>
      measureTorchSteps({ script, model, device, batch, steps: quick ? 2 : 10, precision }),
    );
    return [
      { what: 'a step, ms', value: stepMs },
      { what: 'images a second', value: (batch * 1000) / stepMs },
      ...(bytes === undefined ? [] : [{ what: 'memory of the card, GiB', value: bytes / 2 ** 30 }]),
    ];
  },
};

function hasTorch(): boolean {
  try {
    requirePython(['torch']);
    return true;
  } catch {
    return false;
  }
}
