import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExtractorWeightsError, TorchFileError } from '../../../src/errors.ts';
import { convertExtractor, convertedExtractor } from '../../../src/evaluation/extractors/convert-extractor.ts';
import { parameterShapes } from '../../../src/evaluation/extractors/networks/feature-network.ts';
import { inceptionV3 } from '../../../src/evaluation/extractors/networks/inception-v3.ts';
import { vgg16 } from '../../../src/evaluation/extractors/networks/vgg16.ts';

import { writeFileAtomic } from '../../../src/files/atomic.ts';
import { type NamedTensor, safetensorsChunks } from '../../../src/files/safetensors.ts';
import { readOnnx } from '../../../src/graph/onnx/read.ts';
import { torchFile } from '../../files/torch/write.ts';
import { weightsByRule } from './networks/reference.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'convert-extractor-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Tensors = Map<string, NamedTensor>;
const narrow = [inceptionV3({ narrow: 16 }), vgg16({ narrow: 16 })];

function tensorsOf(index: 0 | 1): Tensors {
  const shapes = parameterShapes(narrow[index] ?? inceptionV3());
  return new Map(
    [...shapes].map(([name, shape]) => [name, { dtype: 'F32', shape: [...shape], data: weightsByRule(name, shape) }]),
  );
}
async function written(tensors: Tensors): Promise<string> {
  const file = path.join(folder, 'weights.safetensors');
  await writeFileAtomic(file, safetensorsChunks(tensors));
  return file;
}
const bytesOf = (view?: NodeJS.TypedArray) =>
  Buffer.from(view?.buffer ?? new ArrayBuffer(0), view?.byteOffset, view?.byteLength);
const scalar = { dtype: 'I64', shape: [], data: BigInt64Array.of(7n) } as const;

describe('a state dict as safetensors', () => {
  it('is told by its tensors, and becomes the constants of the model; counters of batches are left out', async () => {
    const tensors = tensorsOf(0);
    tensors.set('Conv2d_1a_3x3.bn.num_batches_tracked', { ...scalar, shape: [] });
    const { network, bytes } = await convertedExtractor(await written(tensors), narrow);
    expect(network.name).toBe('inception');
    const graph = readOnnx(bytes);
    expect(graph.inputs.map(({ name, shape }) => [name, shape])).toEqual([['images', ['batch_size', 3, 299, 299]]]);
    expect(graph.outputs.map(({ name, value }) => [name, value.shape])).toEqual([
      ['64', ['batch_size', 4]],
      ['192', ['batch_size', 12]],
      ['768', ['batch_size', 48]],
      ['2048', ['batch_size', 128]],
      ['logits_unbiased', ['batch_size', 1008]],
      ['logits', ['batch_size', 1008]],
    ]);
    const constants = new Map(graph.constants.map(({ name, data }) => [name, data]));
    tensors.delete('Conv2d_1a_3x3.bn.num_batches_tracked');
    for (const [name, { data }] of tensors) expect(bytesOf(constants.get(name)).equals(bytesOf(data)), name).toBe(true);
  });

  it('of VGG16 gives VGG16, and equal weights equal bytes', async () => {
    const file = await written(tensorsOf(1));
    const first = await convertedExtractor(file, narrow);
    expect(first.network.name).toBe('vgg16');
    expect(Buffer.from((await convertedExtractor(file, narrow)).bytes).equals(first.bytes)).toBe(true);
  });
});

describe('what does not fit is listed in one error, and nothing is written', () => {
  const cases: [string, (tensors: Tensors) => void, RegExp][] = [
    [
      'missing tensors',
      (tensors) => {
        tensors.delete('fc.bias');
        tensors.delete('Mixed_5b.branch1x1.bn.running_var');
      },
      /2 missing: Mixed_5b\.branch1x1\.bn\.running_var, fc\.bias$/,
    ],
    [
      'unknown tensors',
      (tensors) => tensors.set('fc2.weight', { dtype: 'F32', shape: [1], data: Float32Array.of(1) }),
      /1 unknown: fc2\.weight$/,
    ],
    [
      'another shape, and a missing one',
      (tensors) => {
        tensors.set('fc.bias', { dtype: 'F32', shape: [1000], data: new Float32Array(1000) });
        tensors.delete('fc.weight');
      },
      /1 missing: fc\.weight; 1 of another shape or dtype: fc\.bias is F32 \[1000\], not F32 \[1008\]$/,
    ],
    [
      'another dtype',
      (tensors) => tensors.set('fc.bias', { dtype: 'F16', shape: [1008], data: new Uint16Array(1008) }),
      /fc\.bias is F16 \[1008\], not F32 \[1008\]$/,
    ],
    [
      'no network that is known',
      (tensors) => {
        tensors.clear();
        tensors.set('conv.weight', { dtype: 'F32', shape: [1], data: Float32Array.of(1) });
      },
      /neither Mixed_7c\.branch_pool\.conv\.weight of inception, nor classifier\.6\.weight of vgg16, but conv\.weight$/,
    ],
  ];
  it.each(cases)('%s', async (_, change, message) => {
    const tensors = tensorsOf(0);
    change(tensors);
    const error = await convertedExtractor(await written(tensors), narrow).catch((caught) => caught);
    expect(error).toBeInstanceOf(ExtractorWeightsError);
    expect(error.message).toMatch(message);
  });

  it('a network of other widths, in part and by its count', async () => {
    const output = path.join(folder, 'none.onnx');
    await expect(convertExtractor(await written(tensorsOf(0)), output)).rejects.toThrow(
      /471 of another shape or dtype: Conv2d_1a_3x3\.conv\.weight is F32 \[2, 3, 3, 3\], not F32 \[32, 3, 3, 3\].* and 459 more$/,
    );
    expect(existsSync(output)).toBe(false);
  });

  it('a file that torch did not write', async () => {
    const file = path.join(folder, 'vgg16-397923af.pth');
    await writeFile(file, 'PK');
    await expect(convertExtractor(file, path.join(folder, 'none.onnx'))).rejects.toThrow(TorchFileError);
  });
});

it.each(['zip', 'legacy'] as const)("torch's own file gives the same model as safetensors: %s", async (format) => {
  const tensors = tensorsOf(0);
  const file = path.join(folder, `weights-${format}.pth`);
  const floats = [...tensors].map(([name, { shape, data }]) => {
    return [name, { shape, data: data as Float32Array<ArrayBuffer> }] as const;
  });
  await writeFile(file, torchFile(new Map(floats), format));
  const { network, bytes } = await convertedExtractor(file, narrow);
  expect(network.name).toBe('inception');
  expect(bytesOf(bytes).equals(bytesOf((await convertedExtractor(await written(tensors), narrow)).bytes))).toBe(true);
});
