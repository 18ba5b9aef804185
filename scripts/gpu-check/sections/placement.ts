import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { isoLoss } from '../../../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../../../src/models/index.ts';
import { nodesOnCpu } from '../../../src/runtime/node/placement.ts';
import { DDPMScheduler } from '../../../src/schedulers/ddpm.ts';
import { buildLoopGraph } from '../../../src/trainers/engines/fused.ts';
import { stepSettings } from '../../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../../src/trainers/training-arguments.ts';
import { everyPrecision, mixedPrecision, type Section } from '../section.ts';

/** Where the library at hand places the nodes of a training step. */
export const placementSection: Section = {
  title: 'Placement',
  note: 'The nodes of a training step that onnxruntime places on the cpu, by its verbose log. (On webgpu a node on the cpu is an error at once.)',
  cases: (devices, quick) =>
    everyPrecision(
      devices.filter((device) => device === 'cuda'),
      quick ? 2 : 128,
    ),
  async run({ device, precision, batch, quick }) {
    const args = resolveTrainingArguments({
      output_dir: 'unused',
      per_device_train_batch_size: batch,
      use_ema: true,
      mixed_precision: mixedPrecision(precision),
    });
    const model = new UNet2DModel(unet2DPreset(quick ? 'small' : 'ddpm-cifar10'));
    const settings = stepSettings(
      { model, loss: isoLoss({ lambda: 0.05 }), noise_scheduler: new DDPMScheduler() },
      args,
    );
    const { graph } = buildLoopGraph(settings, 'cuda');
    const { misplaced: onCpu } = await nodesOnCpu(writeOnnx(graph), { executionProviders: [device] });
    return [
      { what: `nodes on the cpu${onCpu.length > 0 ? ` (${onCpu.join(', ')})` : ''}`, value: onCpu.length, limit: 0 },
    ];
  },
};
