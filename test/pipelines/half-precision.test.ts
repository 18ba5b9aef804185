import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AutoModel, env, Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { decodeModel } from '../../src/graph/onnx/schema.ts';
import { elementCount } from '../../src/graph/types.ts';
import { ConditionalDense, initialParameters, OnnxModel } from '../../src/models/index.ts';
import { exportModel } from '../../src/models/model.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { smallImageTrainer } from '../trainers/small-image-trainer.ts';
import { smallTrainer } from '../trainers/small-trainer.ts';

let folder: string;
const points = () => path.join(folder, 'points');
const images = () => path.join(folder, 'images');
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-half-'));
  const common = { max_steps: 1, report_to: [], use_ema: true };
  const ofPoints = smallTrainer({ ...common, output_dir: path.join(folder, 'run-points') });
  await ofPoints.savePipeline(points(), { onnx_dtype: 'fp16', layout: 'transformers.js' });
  const ofImages = smallImageTrainer({ ...common, output_dir: path.join(folder, 'run-images') });
  await ofImages.savePipeline(images(), { onnx_dtype: 'fp16' });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const rms = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.sqrt(Array.from(a, (value, i) => (value - (b[i] ?? Number.NaN)) ** 2).reduce((sum, x) => sum + x) / a.length);

describe("savePipeline with onnx_dtype 'fp16'", () => {
  it('writes the half file beside the other, by the names of transformers.js', () => {
    for (const model of ['unet', 'unet_ema'])
      expect(existsSync(path.join(images(), model, 'model_fp16.onnx'))).toBe(true);
    const shown = (name: string) => existsSync(path.join(points(), name));
    expect(['onnx/model.onnx', 'onnx/model_fp16.onnx', 'unet/model_fp16.onnx'].every(shown)).toBe(true);
    expect(['unet_ema/model.onnx', 'unet_ema/model_fp16.onnx'].some(shown)).toBe(false);
  });

  it('has parameters in float16 but for frozen ones, and inputs and outputs in float32', () => {
    const model = tinyUNet({ time_embedding_type: 'fourier' });
    const [half, whole] = (['float16', 'float32'] as const).map((dtype) =>
      exportModel(model, initialParameters(model, 0), dtype),
    );
    const { graph } = decodeModel(half ?? new Uint8Array());
    const types = new Map(graph.initializer?.map(({ name, dataType }) => [name, dataType]));
    expect(types.get('conv_in.weight')).toBe(10);
    expect(types.get('time_proj.weight')).toBe(1);
    const ends = [...(graph.input ?? []), ...(graph.output ?? [])];
    expect(ends.map(({ type }) => type?.tensorType?.elemType)).toEqual([1, 7, 1]);
    const count = model.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    const saved = (whole?.length ?? 0) - (half?.length ?? 0);
    // Two bytes a parameter, less the casts.
    expect(saved).toBeGreaterThan(1.5 * count);
    expect(saved).toBeLessThan(2 * count);
  });

  it("is opened by transformers.js's AutoModel with dtype 'fp16'", async () => {
    const { localModelPath, allowRemoteModels } = env;
    try {
      Object.assign(env, { localModelPath: folder, allowRemoteModels: false });
      const model = await AutoModel.from_pretrained('points', { dtype: 'fp16' });
      const sample = Float32Array.of(0.5, -0.5, 1, 2);
      const { out_sample } = await model({
        sample: new Tensor('float32', sample, [2, 2]),
        timestep: new Tensor('int64', BigInt64Array.of(10n), [1]),
      });
      const generate = await pipeline('unconditional-point-generation', points(), { device: 'cpu', dtype: 'fp16' });
      expect(out_sample.data).toEqual(await generate.model.predict(sample, 10));
      await generate.dispose();
      await model.dispose();
    } finally {
      Object.assign(env, { localModelPath, allowRemoteModels });
    }
  });

  it('refuses a weight beyond float16, and a model that computes in float32 only', async () => {
    const model = new ConditionalDense({ hidden_features: 4 });
    const weights = initialParameters(model, 0);
    weights.get('layers.0.linear.weight')?.set([70_000]);
    expect(() => exportModel(model, weights, 'float16')).toThrow(InvalidArgumentError);
    const read = OnnxModel.fromBytes(exportModel(model, initialParameters(model, 0)));
    expect(() => exportModel(read, initialParameters(read, 0), 'float16')).toThrow(
      'not possible with a OnnxModel, which computes in float32 only',
    );
  });
});

describe("pipeline() with dtype 'fp16'", () => {
  it('draws points as in float32, up to the rounding', async () => {
    const draw = async (dtype: 'fp32' | 'fp16') => {
      const generate = await pipeline('unconditional-point-generation', points(), { device: 'cpu', dtype });
      const { points: drawn } = await generate({ batch_size: 20, num_inference_steps: 50, seed: 1 });
      await generate.dispose();
      return drawn;
    };
    const [whole, half] = [await draw('fp32'), await draw('fp16')];
    const error = rms(half, whole);
    // Of float16's 11 bits, over 50 steps.
    expect(error).toBeGreaterThan(0);
    expect(error).toBeLessThan(1e-2);
  });

  it('draws images of the half file and of the weights alike', async () => {
    const predicted = async (dtype: 'fp32' | 'fp16') => {
      const generate = await pipeline('unconditional-image-generation', images(), { device: 'cpu', dtype });
      const sample = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
      const output = await generate.model.predict(sample, 500);
      await generate({ batch_size: 1, num_inference_steps: 2, seed: 0 });
      await generate.dispose();
      return output;
    };
    const [whole, half] = [await predicted('fp32'), await predicted('fp16')];
    const error = rms(half, whole) / rms(whole, new Float32Array(64));
    expect(error).toBeGreaterThan(0);
    expect(error).toBeLessThan(1e-2);
    const opened = await pipeline('unconditional-image-generation', path.join(images(), 'unet_ema/model_fp16.onnx'), {
      device: 'cpu',
    });
    expect(opened.model.sampleShape).toEqual([1, 8, 8]);
    await opened.dispose();
  });

  it('refuses other types, a type for a file', async () => {
    const open = (model: string, options: object) =>
      pipeline('unconditional-image-generation', model, { device: 'cpu', ...options });
    await expect(open(images(), { dtype: 'q8' })).rejects.toThrow("dtype 'q8': models of images run in fp32 or fp16");
    await expect(open(path.join(images(), 'unet/model.onnx'), { dtype: 'fp16' })).rejects.toThrow(InvalidArgumentError);
  });
});
