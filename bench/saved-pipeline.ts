import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { savePipelineFolder } from '../src/hub/pipeline-folder.ts';
import type { UNet2DModel } from '../src/models/index.ts';
import { exportModel, initialParameters } from '../src/models/model.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { namedWeights } from './unet-step.ts';

/** Calls `use` with a temporary folder of a pipeline whose U-Net has the weights of seed 0. */
export async function withSavedPipeline<T>(model: UNet2DModel, use: (folder: string) => Promise<T>): Promise<T> {
  const parent = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  const folder = path.join(parent, 'pipeline');
  try {
    await savePipelineFolder(folder, {
      modelIndex: {
        _class_name: 'DDPMPipeline',
        scheduler: ['diffusers', 'DDPMScheduler'],
        unet: ['diffusers', 'UNet2DModel'],
      },
      unetConfig: JSON.parse(JSON.stringify(model.config)),
      unet: { onnx: () => exportModel(model, initialParameters(model, 0)), weights: namedWeights(model) },
      schedulerConfig: new DDPMScheduler().toConfig(),
    });
    return await use(folder);
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
}
