import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FileFormatError, InvalidArgumentError } from '../../../src/errors.ts';
import { TransformersFeatures } from '../../../src/evaluation/extractors/transformers-features.ts';
import { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { reduceMean, reshape } from '../../../src/graph/ops/index.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'transformers-features-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A ViT in form: three tokens of 64 values, which are the red, green and blue pixels of an 8 x 8 image. */
function tokensOfColours(rank: 3 | 4): Uint8Array {
  const graph = new Graph('tokens');
  const x = graph.input('pixel_values', 'float32', ['batch_size', 3, 8, 8]);
  graph.output('last_hidden_state', rank === 3 ? reshape(x, [0, 3, 64]) : reshape(x, [0, 3, 16, 4]));
  graph.output('pooler_output', reduceMean(x, [2, 3]));
  return writeOnnx(graph);
}

async function modelFolder(name: string, onnx: Uint8Array): Promise<string> {
  const folder = path.join(root, name);
  await mkdir(path.join(folder, 'onnx'), { recursive: true });
  await writeFile(path.join(folder, 'onnx', 'model.onnx'), onnx);
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ model_type: 'vit', architectures: ['ViTModel'] }));
  const preprocessing = {
    image_processor_type: 'ViTImageProcessor',
    do_resize: true,
    size: { height: 8, width: 8 },
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
  };
  await writeFile(path.join(folder, 'preprocessor_config.json'), JSON.stringify(preprocessing));
  return folder;
}

const plain = (size: number, ...colour: number[]) => ({
  data: Uint8Array.from({ length: size * size * colour.length }, (_, at) => colour[at % colour.length] ?? 0),
  height: size,
  width: size,
  channels: colour.length,
});

test('the class token, and the pooled output, of a model in a folder', async () => {
  const onnx = tokensOfColours(3);
  const model = await modelFolder('vit', onnx);
  const tokens = await TransformersFeatures.load({ model, local_files_only: true, batch_size: 2 });
  expect(tokens.dims).toBe(64);
  expect(tokens.checksum).toBe(createHash('sha256').update(onnx).digest('hex'));
  const images = [plain(8, 255, 0, 0), plain(8, 0, 255, 255), plain(20, 51)];
  const features = await tokens.extract(images);
  // The first token is the red pixels, scaled to [-1, 1]; resizing keeps a plain colour.
  const expected = [1, -1, -0.6];
  features.forEach((value, at) => {
    expect(Math.abs(value - (expected[Math.floor(at / 64)] as number))).toBeLessThan(1e-6);
  });
  expect(features).toHaveLength(3 * 64);
  await tokens.dispose();

  const pooled = await TransformersFeatures.load({ model, local_files_only: true, pool: true });
  expect(pooled.dims).toBe(3);
  expect(pooled.name).not.toBe(tokens.name);
  const colours = await pooled.extract([plain(8, 255, 0, 51)]);
  [1, -1, -0.6].forEach((value, at) => {
    expect(Math.abs((colours[at] as number) - value)).toBeLessThan(1e-6);
  });
  await pooled.dispose();
});

test('a model that gives neither vectors nor tokens', async () => {
  const model = await modelFolder('maps', tokensOfColours(4));
  const error = await TransformersFeatures.load({ model, local_files_only: true }).catch((caught) => caught);
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(error.message).toMatch(/the shape \(1, 3, 16, 4\)/);
});

test('a model that is not there says what is needed', async () => {
  const error = await TransformersFeatures.load({
    model: path.join(root, 'none'),
    local_files_only: true,
  }).catch((caught) => caught);
  expect(error).toBeInstanceOf(FileFormatError);
  expect(error.message).toMatch(/none cannot be loaded.*onnx\/model.onnx/s);
  await expect(TransformersFeatures.load({ model: root, batch_size: 0 })).rejects.toThrow(/batch_size is 0/);
});
