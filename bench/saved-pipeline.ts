import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { UNet2DModel } from '../src/models/index.ts';
import { saveModel } from '../test/pipelines/saved-unet.ts';

/** Calls `use` with a temporary folder of a pipeline whose U-Net has the weights of seed 0. */
export async function withSavedPipeline<T>(model: UNet2DModel, use: (folder: string) => Promise<T>): Promise<T> {
  const parent = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  const folder = path.join(parent, 'pipeline');
  try {
    await saveModel(folder, model);
    return await use(folder);
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
}
