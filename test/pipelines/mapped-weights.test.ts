import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { zipFolder } from '../../src/files/zip.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { exportModelGraph, initialParameters, UNet2DModel } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { loadFolder } from '../../src/pipelines/load.ts';
import { plainLevels } from '../models/tiny-unet.ts';
import { saveModel, smallUNet } from './saved-unet.ts';

// 21 MB of weights.
const model = new UNet2DModel({ ...smallUNet, ...plainLevels, block_out_channels: [128, 128] });
let root: string;
let folder: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-mapped-'));
  folder = path.join(root, 'pipeline');
  await saveModel(folder, model);
});
afterAll(() => rm(root, { recursive: true, force: true }));

it('a large model keeps its weights in their file, and draws as its ONNX file', async () => {
  const built = writeOnnx(exportModelGraph(model, initialParameters(model, 0), 'float32'));
  const loaded = await loadFolder(folder, { device: 'cpu' }, 'images');
  expect(built.length).toBeGreaterThan(2 ** 24);
  expect(loaded.onnx.length).toBeLessThan(2 ** 20);
  expect(await loaded.checksum()).toBe(createHash('sha256').update(built).digest('hex'));
  await loaded.model.release();

  const [mapped, whole] = await Promise.all(
    [folder, path.join(folder, 'unet', 'model.onnx')].map(async (source) => {
      const generate = await pipeline('unconditional-image-generation', source, { device: 'cpu' });
      const { data } = await generate({ batch_size: 2, num_inference_steps: 2, output_type: 'tensor', seed: 1 });
      await generate.dispose();
      return data as Float32Array;
    }),
  );
  const differences = Array.from(mapped ?? [], (value, i) => Math.abs(value - Number(whole?.[i])));
  expect(differences).toHaveLength(2 * 64);
  expect(Math.max(...differences)).toBeLessThan(1e-5);
});

it('its checksum is taken when images are drawn into a folder, and not of other weights', async () => {
  const drawn = async (source: string | Uint8Array, name: string) => {
    const target = path.join(root, name);
    const generate = await pipeline('unconditional-image-generation', source, { device: 'cpu' });
    if (name === 'late') await utimes(path.join(folder, 'unet', 'diffusion_pytorch_model.safetensors'), 0, 0);
    await generate.toFolder(target, { count: 1, num_inference_steps: 1 }).finally(() => generate.dispose());
    return readFile(path.join(target, 'generation.json'), 'utf8');
  };
  // What is unpacked is removed as soon as it is loaded.
  expect(await drawn(await zipFolder(folder), 'unpacked')).toBe(await drawn(folder, 'images'));
  await expect(drawn(folder, 'late')).rejects.toThrow(/has changed since the model was opened/);
});
