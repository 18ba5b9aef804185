import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SafetensorsError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { float32Tensor, type WeightsDtype } from '../../src/files/float-tensors.ts';
import { safetensorsChunks } from '../../src/files/safetensors.ts';
import { exportModel, initialParameters, UNet2DModel } from '../../src/models/index.ts';
import { storedModel } from '../../src/models/stored-model.ts';
import { readModelWeights } from '../../src/models/weights.ts';
import { float32Data, hostTensor, Session } from '../../src/runtime/session.ts';
import { tinyUNetOptions } from './tiny-unet.ts';

// Filters of 3 x 3 with 64 channels on both sides are large enough to stay in their file, those with 8 are not.
const model = new UNet2DModel({ ...tinyUNetOptions, block_out_channels: [8, 64] });
const weights = initialParameters(model, 0);
const oneFile = exportModel(model, weights);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-stored-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function writeWeights(name: string, isIn: (index: number) => boolean, dtype: WeightsDtype): Promise<string> {
  const file = path.join(root, name);
  await mkdir(path.dirname(file), { recursive: true });
  const tensors = model.parameters
    .filter((_, index) => isIn(index))
    .map(
      ({ name, shape }) => [name, float32Tensor(name, shape, weights.get(name) ?? new Float32Array(), dtype)] as const,
    );
  await writeFileAtomic(file, safetensorsChunks(new Map(tensors), { format: 'pt' }));
  return file;
}

async function output(onnx: Uint8Array, weightsFolder?: string, whileOpen?: () => Promise<void>) {
  const session = await Session.create(onnx, 'cpu', { weightsFolder });
  await whileOpen?.();
  const { out_sample } = await session.run({
    sample: hostTensor(
      'float32',
      [2, 1, 8, 8],
      Float32Array.from({ length: 128 }, (_, i) => Math.sin(i)),
    ),
    timestep: hostTensor('int64', [1], BigInt64Array.of(500n)),
  });
  await session.release();
  return float32Data(out_sample, 'out_sample');
}

/** onnxruntime fuses other nodes where it knows all shapes: ten roundings of values up to 1. */
const largestDifference = (one: Float32Array, other: Float32Array) =>
  one.reduce((largest, value, i) => Math.max(largest, Math.abs(value - (other[i] ?? Number.NaN))), 0);

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const half = (index: number) => index < model.parameters.length / 2;

it('a model with its weights in a file computes as the one with them inside, and has its checksum', async () => {
  const file = await writeWeights('whole.safetensors', () => true, 'fp32');
  const stored = await storedModel(model, file);
  expect(stored.onnx.length).toBeLessThan(oneFile.length / 4);
  expect(await stored.checksum()).toBe(sha256(oneFile));
  // A folder that is saved again is replaced, not written to.
  const replaceFile = async () => {
    const other = path.join(root, 'other.safetensors');
    await writeFile(other, 'other weights');
    await rename(other, file);
  };
  const unread = await storedModel(model, file);
  expect(
    largestDifference(await output(stored.onnx, stored.weightsFolder, replaceFile), await output(oneFile)),
  ).toBeLessThan(1e-5);
  expect(await stored.checksum()).toBe(sha256(oneFile));
  await expect(unread.checksum()).rejects.toThrow(SafetensorsError);
});

it('weights lie in shards behind links, as in the cache of the Hub', async () => {
  const shards = ['first', 'second'].map((name) => path.join(root, `${name}.safetensors`));
  const blobs = [
    await writeWeights('blobs/00ff', half, 'fp32'),
    await writeWeights('blobs/ff00', (index) => !half(index), 'fp32'),
  ];
  for (const [i, blob] of blobs.entries()) await symlink(blob, shards[i] ?? '');
  const index = path.join(root, 'model.safetensors.index.json');
  const weight_map = Object.fromEntries(
    model.parameters.map(({ name }, i) => [name, path.basename(shards[half(i) ? 0 : 1] ?? '')]),
  );
  await writeFile(index, JSON.stringify({ weight_map }));
  const linked = await storedModel(model, index);
  expect(linked.onnx.length).toBeLessThan(oneFile.length / 4);
  expect(await linked.checksum()).toBe(sha256(oneFile));
  expect(largestDifference(await output(linked.onnx, linked.weightsFolder), await output(oneFile))).toBeLessThan(1e-5);

  // What lies in another folder than the first shard is read.
  await rm(shards[1] ?? '');
  await rename(blobs[1] ?? '', shards[1] ?? '');
  const spread = await storedModel(model, index);
  expect(spread.onnx.length).toBeGreaterThan(oneFile.length / 4);
  expect(await spread.checksum()).toBe(sha256(oneFile));
  expect(largestDifference(await output(spread.onnx, spread.weightsFolder), await output(oneFile))).toBeLessThan(1e-5);
});

it('weights of another type are read', async () => {
  const file = await writeWeights('half.safetensors', () => true, 'fp16');
  const { onnx, weightsFolder, checksum } = await storedModel(model, file);
  const whole = exportModel(model, await readModelWeights(model, file));
  expect(await checksum()).toBe(sha256(whole));
  expect(largestDifference(await output(onnx, weightsFolder), await output(whole))).toBeLessThan(1e-5);
});
