import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError, SafetensorsError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { float32Tensor, floatTensorInfos, readFloatTensors } from '../../src/files/float-tensors.ts';
import { type NamedTensor, safetensorsChunks } from '../../src/files/safetensors.ts';
import { adviceOnMissingWeights, findWeights, isWeightsFile, weightsFile } from '../../src/hub/pipeline-folder.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-weights-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const values = Float32Array.of(1, -2.5, 0.125, 65504, 2 ** -24, -0);
const INDEX = 'diffusion_pytorch_model.safetensors.index.json';

async function write(name: string, tensors: Record<string, NamedTensor>): Promise<string> {
  const file = path.join(root, name);
  await writeFileAtomic(file, safetensorsChunks(new Map(Object.entries(tensors)), { format: 'pt' }));
  return file;
}

async function readAll(file: string): Promise<Map<string, Float32Array>> {
  const infos = await floatTensorInfos(file);
  const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
  const arrays = new Map([...infos].map(([name, { shape }]) => [name, new Float32Array(sizeOf(shape))]));
  await readFloatTensors(file, arrays);
  return arrays;
}

const one = (value: number): NamedTensor => ({ dtype: 'F32', shape: [1], data: Float32Array.of(value) });

describe('one file', () => {
  it('of all floating-point types is read as float32, exactly where that is possible', async () => {
    const file = await write('mixed.safetensors', {
      whole: float32Tensor('whole', [2, 3], values, 'fp32'),
      half: float32Tensor('half', [6], values, 'fp16'),
      brain: float32Tensor('brain', [3], values.subarray(0, 3), 'bf16'),
      double: { dtype: 'F64', shape: [2], data: Float64Array.of(0.1, 1e300) },
    });
    const read = await readAll(file);
    expect(read.get('whole')).toEqual(values);
    expect(read.get('half')).toEqual(values);
    expect(read.get('brain')).toEqual(values.subarray(0, 3));
    expect(read.get('double')).toEqual(Float32Array.of(Math.fround(0.1), Number.POSITIVE_INFINITY));
  });

  it('is read into views of a larger array, and only as far as it is asked for', async () => {
    const file = await write('two.safetensors', { a: one(1), b: float32Tensor('b', [6], values, 'bf16') });
    const vector = new Float32Array(8).fill(9);
    await readFloatTensors(file, new Map([['b', vector.subarray(1, 7)]]));
    expect([vector[0], vector[1], vector[2], vector[7]]).toEqual([9, 1, -2.5, 9]);
    const tooLong = new Map([['b', vector]]);
    await expect(readFloatTensors(file, tooLong)).rejects.toThrow(/'b' is \[6\], which does not hold 8 values/);
    await expect(readFloatTensors(file, new Map([['c', vector]]))).rejects.toThrow(/no tensor 'c'/);
  });

  it('of integers is refused', async () => {
    const file = await write('x.safetensors', { x: { dtype: 'I32', shape: [1], data: Int32Array.of(1) } });
    await expect(floatTensorInfos(file)).rejects.toThrow(/'x' is I32/);
  });
});

describe('shards', () => {
  const write2 = async (map: Record<string, string>, name = INDEX) => {
    await write('diffusion_pytorch_model-00001-of-00002.safetensors', { a: one(1), b: one(2) });
    await write('diffusion_pytorch_model-00002-of-00002.safetensors', { c: one(3) });
    await writeFile(path.join(root, name), JSON.stringify({ metadata: { total_size: 12 }, weight_map: map }));
    return path.join(root, name);
  };
  const [first, second] = [1, 2].map((i) => `diffusion_pytorch_model-0000${i}-of-00002.safetensors`) as [
    string,
    string,
  ];

  it('are found before a single file, and read together', async () => {
    const index = await write2({ a: first, b: first, c: second });
    await write('diffusion_pytorch_model.safetensors', { a: one(7) });
    expect(await findWeights(root, undefined)).toBe(index);
    expect(Object.fromEntries(await readAll(index))).toEqual({
      a: Float32Array.of(1),
      b: Float32Array.of(2),
      c: Float32Array.of(3),
    });
  });

  it.each([
    '../outside.safetensors',
    '/etc/x.safetensors',
    'sub/x.safetensors',
    '..\\x.safetensors',
    'C:x.safetensors',
    '..safetensors',
    'model.bin',
    '.hidden.safetensors',
    'x\0.safetensors',
    '',
  ])('never lie in %j', async (file) => {
    const index = await write2({ a: first, b: file });
    await expect(floatTensorInfos(index)).rejects.toThrow(SafetensorsError);
    await expect(floatTensorInfos(index)).rejects.toThrow(/not the name of a .safetensors file beside it/);
  });

  it('that do not hold what the index says are refused', async () => {
    await expect(floatTensorInfos(await write2({ a: first, b: second, c: second }))).rejects.toThrow(
      /puts 'b' into .*00002-of-00002/,
    );
    await copyFile(path.join(root, first), path.join(root, second));
    const twice = path.join(root, INDEX);
    await writeFile(twice, JSON.stringify({ weight_map: { a: first, b: second } }));
    await expect(floatTensorInfos(twice)).rejects.toThrow(/lies in two of its files/);
    await writeFile(twice, JSON.stringify({ weight_map: {} }));
    await expect(floatTensorInfos(twice)).rejects.toThrow(/lists 0 files/);
    await writeFile(twice, JSON.stringify({ weight_map: { a: 1 } }));
    await expect(floatTensorInfos(twice)).rejects.toThrow(ConfigError);
    await writeFile(twice, JSON.stringify({ weight_map: { a: 'lost.safetensors' } }));
    await expect(floatTensorInfos(twice)).rejects.toThrow(/lost.safetensors does not exist/);
  });

  it.each([
    'diffusion_pytorch_model.safetensors.index.fp16.json',
    'diffusion_pytorch_model.safetensors.fp16.index.json',
  ])('of a variant are found by %s', async (name) => {
    const index = await write2({ a: first, b: first, c: second }, name);
    expect(await findWeights(root, 'fp16')).toBe(index);
    expect(await findWeights(root, undefined)).toBeUndefined();
  });
});

describe('names of weights', () => {
  it.each([
    ['diffusion_pytorch_model.safetensors', undefined, true],
    ['diffusion_pytorch_model-00001-of-00002.safetensors', undefined, true],
    [INDEX, undefined, true],
    ['diffusion_pytorch_model.fp16.safetensors', undefined, false],
    ['diffusion_pytorch_model.fp16.safetensors', 'fp16', true],
    ['diffusion_pytorch_model.fp16-00001-of-00002.safetensors', 'fp16', true],
    ['diffusion_pytorch_model-00001-of-00002.fp16.safetensors', 'fp16', true],
    ['diffusion_pytorch_model.safetensors', 'fp16', false],
    ['diffusion_pytorch_model.bin', undefined, false],
  ])('%s is one of variant %s: %s', (name, variant, expected) => {
    expect(isWeightsFile(name, variant)).toBe(expected);
  });

  it.each(['../x', 'a.b', '', 'a/b'])('a variant is a word, not %j', (variant) => {
    expect(() => weightsFile(variant)).toThrow(InvalidArgumentError);
  });

  it('advice says what is there instead', () => {
    expect(adviceOnMissingWeights(['diffusion_pytorch_model.fp16.safetensors'], undefined)).toMatch(
      /pass variant: 'fp16'/,
    );
    expect(adviceOnMissingWeights(['diffusion_pytorch_model.safetensors'], 'fp16')).toMatch(/leave out/);
    for (const name of ['diffusion_pytorch_model.bin', 'model.ckpt', 'model.pt', 'model.pth'])
      expect(adviceOnMissingWeights([name], undefined)).toMatch(/is a pickle.*safe_serialization=True/);
    expect(adviceOnMissingWeights([], undefined)).toMatch(/there is no diffusion_pytorch_model.safetensors/);
  });
});

it('a weight that the smaller type cannot hold is refused, and named', () => {
  const large = Float32Array.of(1, -65_520);
  expect(() => float32Tensor('conv.weight', [2], large, 'fp16')).toThrow(/'conv.weight' has the value -65520/);
  expect(float32Tensor('x', [1], Float32Array.of(65_519), 'fp16').data).toEqual(Uint16Array.of(0x7bff));
  const huge = Float32Array.of(3.4e38);
  expect(() => float32Tensor('x', [1], huge, 'bf16')).toThrow(InvalidArgumentError);
  expect(() => float32Tensor('x', [1], huge, 'int8' as 'fp16')).toThrow(/dtype 'int8' is unknown/);
});
