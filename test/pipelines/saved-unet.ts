import type { NamedTensor } from '../../src/files/safetensors.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { savePipelineFolder } from '../../src/hub/pipeline-folder.ts';
import { exportModelGraph, initialParameters, UNet2DModel, type UNet2DOptions } from '../../src/models/index.ts';
import { type DDPMOptions, DDPMScheduler } from '../../src/schedulers/index.ts';
import { tinyUNetOptions } from '../models/tiny-unet.ts';

/** A small U-Net for grey images of 8x8; channel counts that no vector width divides. */
export const smallUNet: UNet2DOptions = {
  ...tinyUNetOptions,
  block_out_channels: [4, 12],
  attention_head_dim: 4,
};

/** Saves a small U-Net with random weights as a pipeline folder. */
export async function saveUNet(
  folder: string,
  options: UNet2DOptions = {},
  scheduler: DDPMOptions = {},
): Promise<void> {
  await saveModel(folder, new UNet2DModel({ ...smallUNet, ...options }), scheduler);
}

/** Saves a U-Net with the weights of seed 0 as a pipeline folder. */
export async function saveModel(folder: string, model: UNet2DModel, scheduler: DDPMOptions = {}): Promise<void> {
  const weights = initialParameters(model, 0);
  const tensors = model.parameters.map(({ name, shape }): [string, NamedTensor] => [
    name,
    { dtype: 'F32', shape: [...shape], data: weights.get(name) ?? new Float32Array() },
  ]);
  await savePipelineFolder(folder, {
    modelIndex: {
      _class_name: 'DDPMPipeline',
      scheduler: ['diffusers', 'DDPMScheduler'],
      unet: ['diffusers', 'UNet2DModel'],
    },
    unetConfig: JSON.parse(JSON.stringify(model.config)),
    unet: { onnx: writeOnnx(exportModelGraph(model, weights)), weights: new Map(tensors) },
    schedulerConfig: new DDPMScheduler(scheduler).toConfig(),
  });
}
