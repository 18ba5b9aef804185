import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
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
      return data;
    }),
  );
  expect(mapped).toEqual(whole);
});
