import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';
import { stringifySorted } from '../../src/files/json.ts';
import type { NamedTensor } from '../../src/files/safetensors.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { savePipelineFolder } from '../../src/hub/pipeline-folder.ts';
import { ConditionalDense, exportModelGraph, initialParameters } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';

/** A random model of 100 timesteps; doubled weights keep the layers' outputs near 1, as in a trained one. */
export const model = new ConditionalDense({ hidden_features: 32, num_train_timesteps: 100 });
export const weights = new Map(
  [...initialParameters(model, 0)].map(([name, values]) => [name, values.map((x) => 2 * x)]),
);
export const schedulerOptions = { num_train_timesteps: 100, beta_end: 0.2, clip_sample: false };
export const scaler = { kind: 'min-max' as const, offset: [3, -1], scale: [0.5, 4] };

/** A new folder in the temporary folder, removed after the tests of the file. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Saves the model as a pipeline and returns its folder. */
export async function savePipeline(parent: string, name = 'pipeline'): Promise<string> {
  const folder = path.join(parent, name);
  const tensors = model.parameters.map(({ name: parameter, shape }): [string, NamedTensor] => [
    parameter,
    { dtype: 'F32', shape: [...shape], data: weights.get(parameter) ?? new Float32Array() },
  ]);
  await savePipelineFolder(folder, {
    modelIndex: {
      _class_name: 'DDPMPipeline',
      scheduler: ['diffusers', 'DDPMScheduler'],
      unet: ['iso_diffusion', 'ConditionalDense'],
    },
    unetConfig: { ...model.config },
    unet: { onnx: writeOnnx(exportModelGraph(model, weights)), weights: new Map(tensors) },
    schedulerConfig: new DDPMScheduler(schedulerOptions).toConfig() as never,
    extraFiles: { 'point_scaler.json': stringifySorted(scaler) },
  });
  return folder;
}
