import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PreTrainedModel, PretrainedConfig, RawImage, Tensor } from '@huggingface/transformers';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError, OnnxFormatError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { readSafetensors, safetensorsChunks } from '../../src/files/safetensors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add, cast, mul, reduceSum, reshape } from '../../src/graph/ops/index.ts';
import type { DType } from '../../src/graph/types.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { pipeline, type UnconditionalImageGenerationPipeline } from '../../src/pipelines/index.ts';
import { imageGrid } from '../../src/plots/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/index.ts';
import { ints, node, onnxFile } from '../graph/onnx-nodes.ts';
import { relativeError } from '../models/run-graph.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from '../trainers/stripes.ts';
import { saveUNet } from './saved-unet.ts';

const ddim = new DDIMScheduler({ num_train_timesteps: 1000 });
let folder: string;
let generate: UnconditionalImageGenerationPipeline;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
  const trainer = new Trainer({
    model: tinyUNet({ block_out_channels: [8, 16] }),
    args: {
      output_dir: path.join(folder, 'run'),
      max_steps: 6,
      per_device_train_batch_size: 4,
      use_ema: true,
      device: 'cpu',
    },
    train_dataset: stripes(),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
  });
  await trainer.train();
  await trainer.savePipeline(path.join(folder, 'pipeline'));
  generate = await pipeline('unconditional-image-generation', path.join(folder, 'pipeline'), {
    device: 'cpu',
  });
}, 60_000);
afterAll(async () => {
  await generate.dispose();
  await rm(folder, { recursive: true, force: true });
});
const quick = { num_inference_steps: 4, scheduler: ddim };

describe('pipeline for images', () => {
  it('gives one RawImage, or an array of them', async () => {
    const one = await generate({ ...quick });
    expect(one).toBeInstanceOf(RawImage);
    expect(one).toMatchObject({ width: 8, height: 8, channels: 1 });
    const many = await generate({ ...quick, batch_size: 3 });
    expect(many).toHaveLength(3);
  });

  it('draws image i by the seed and i alone, whatever the batch size', async () => {
    const all = await generate({ ...quick, batch_size: 20, seed: 3, output_type: 'uint8' });
    const some = await generate({ ...quick, batch_size: 2, seed: 3, output_type: 'uint8' });
    expect(all.data.slice(0, 128)).toEqual(some.data);
    const listed = await generate({ ...quick, batch_size: 2, seed: [9, 3], output_type: 'uint8' });
    expect(listed.data.slice(64)).toEqual(some.data.slice(0, 64));
    expect(all.data.slice(64, 128)).not.toEqual(some.data.slice(0, 64));
  });

  it('gives tensors in [0, 1] with the values of the bytes', async () => {
    const tensor = await generate({ ...quick, batch_size: 2, output_type: 'tensor' });
    expect(tensor.dims).toEqual([2, 1, 8, 8]);
    const bytes = await generate({ ...quick, batch_size: 2, output_type: 'uint8' });
    expect(Array.from(tensor.data as Float32Array, (x) => Math.round(x * 255))).toEqual([...bytes.data]);
  });

  it('takes the averaged weights unless told not to, and transformers.js loads the same model', async () => {
    const raw = await pipeline('unconditional-image-generation', path.join(folder, 'pipeline'), {
      device: 'cpu',
      ema: false,
    });
    const sample = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
    const [averaged, plain] = [await generate.model.predict(sample, 10), await raw.model.predict(sample, 10)];
    expect(plain).not.toEqual(averaged);
    class Model extends PreTrainedModel {}
    const model = await Model.from_pretrained(path.join(folder, 'pipeline'), {
      subfolder: 'unet_ema',
      model_file_name: 'model',
      config: new PretrainedConfig({ model_type: 'custom' }),
      dtype: 'fp32',
      local_files_only: true,
    });
    const { out_sample } = await model({
      sample: new Tensor('float32', sample, [1, 1, 8, 8]),
      timestep: new Tensor('int64', BigInt64Array.of(10n), [1]),
    });
    // transformers.js loads the file as it is, of which onnxruntime merges other nodes: both round float32.
    expect(relativeError(out_sample.data, averaged)).toBeLessThan(1e-6);
    await raw.dispose();
    await model.dispose();
  });

  it('writes a folder and goes on where it stopped', async () => {
    const target = path.join(folder, 'samples');
    const controller = new AbortController();
    const stopped = generate.toFolder(target, {
      ...quick,
      count: 5,
      batch_size: 2,
      signal: controller.signal,
      on_progress: (fraction) => fraction >= 0.4 && controller.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
    expect((await readdir(target)).length).toBeGreaterThan(0);
    expect((await readdir(target)).length).toBeLessThan(5);
    const files = await generate.toFolder(target, { ...quick, count: 5, batch_size: 3 });
    const expected = await generate({ ...quick, batch_size: 5, output_type: 'uint8' });
    for (const [i, file] of files.entries()) {
      expect(await sharp(file).metadata()).toMatchObject({ width: 8, height: 8, channels: 1 });
      const data = await sharp(file).extractChannel(0).raw().toBuffer();
      expect([...data]).toEqual([...expected.data.slice(i * 64, (i + 1) * 64)]);
    }
  });

  it('draws batches that are parts of one large batch', async () => {
    const expected = await generate({ ...quick, batch_size: 5, output_type: 'uint8' });
    const pieces: number[] = [];
    const fractions: number[] = [];
    const on_progress = (fraction: number) => void fractions.push(fraction);
    for await (const images of generate.batches({ ...quick, count: 5, batch_size: 2, on_progress })) {
      expect(images).toMatchObject({ height: 8, width: 8, channels: 1 });
      pieces.push(...images.data);
    }
    expect(pieces).toEqual([...expected.data]);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBe(1);
  });

  it('refuses bad options by name', async () => {
    await expect(generate.batches({ count: 2, batch_size: 0 }).next()).rejects.toThrow(/batch_size is 0/);
    await expect(generate({ batch_size: 0 })).rejects.toThrow(InvalidArgumentError);
    await expect(generate({ batch_size: 2, seed: [1] })).rejects.toThrow(/list of 1/);
    await expect(generate({ class_labels: 1 })).rejects.toThrow(/class-conditional/);
    await expect(generate({ ...quick, signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });

  it('saves the names of diffusers, so that diffusers loads it strictly', async () => {
    const file = path.join(folder, 'pipeline/unet/diffusion_pytorch_model.safetensors');
    expect((await readSafetensors(file)).has('down_blocks.1.attentions.0.to_out.0.weight')).toBe(true);
  });

  it('makes a grid of images', async () => {
    const images = await generate({ ...quick, batch_size: 5, output_type: 'uint8' });
    const { width, height } = await sharp(await imageGrid(images, { columns: 3, scale: 2, gap: 1 })).metadata();
    expect([width, height]).toEqual([1 + 3 * 17, 1 + 2 * 17]);
  });
});

describe('an ONNX file alone', () => {
  /** out = 0.1 sample + 0 t, with the timestep as the exporters of others declare it. */
  async function foreign(dtype: DType, shape: readonly (number | string)[]): Promise<string> {
    const graph = new Graph('foreign');
    const sample = graph.input('sample', 'float32', ['batch', 3, 4, 4]);
    const timestep = graph.input('timestep', dtype, shape);
    const time = shape.length === 0 ? reshape(timestep, [1]) : timestep;
    const nothing = reduceSum(mul(cast(time, 'float32'), graph.constant('float32', [], Float32Array.of(0))));
    graph.output('noise_pred', add(mul(sample, graph.constant('float32', [], Float32Array.of(0.1))), nothing));
    const file = path.join(folder, `foreign-${dtype}-${shape.length}.onnx`);
    await writeFile(file, writeOnnx(graph));
    return file;
  }

  it.each([
    ['int64', []],
    ['float32', []],
    ['int32', [1]],
    ['float64', ['n']],
  ] as const)('generates with a timestep of %s %j', async (dtype, shape) => {
    const opened = await pipeline('unconditional-image-generation', await foreign(dtype, shape), {
      device: 'cpu',
      scheduler: ddim,
    });
    const { data, count, height, width, channels } = await opened({
      batch_size: 2,
      num_inference_steps: 3,
      output_type: 'uint8',
    });
    expect([count, height, width, channels]).toEqual([2, 4, 4, 3]);
    expect(new Set(data).size).toBeGreaterThan(10);
    await opened.dispose();
  });

  it('takes open axes, a fixed batch, a timestep for each sample and further outputs', async () => {
    const file = path.join(folder, 'two-outputs.onnx');
    const model = (sample: (number | string)[], timestep: (number | string)[]) =>
      onnxFile({
        opset: 13,
        inputs: { sample, timestep },
        nodes: [
          node('Neg', ['sample'], ['features']),
          node('Reshape', ['timestep', 'column'], ['times']),
          node('Mul', ['sample', 'times'], ['product']),
          node('Mul', ['product', 'tenth'], ['out_sample']),
        ],
        initializers: { column: ints(-1, 1, 1, 1), tenth: { shape: [], values: [0.0001] } },
        outputs: ['features', 'out_sample'],
      });
    const draw = async (...axes: [(number | string)[], (number | string)[]]) => {
      await writeFile(file, model(...axes));
      const options = { device: 'cpu', scheduler: ddim, sample_shape: [3, 4, 6] } as const;
      const opened = await pipeline('unconditional-image-generation', file, options);
      const { data } = await opened({ batch_size: 3, num_inference_steps: 3, output_type: 'uint8' });
      await opened.dispose();
      return data;
    };
    const drawn = await draw(['n', 'c', 'h', 'w'], ['n']);
    expect(drawn).toHaveLength(3 * 3 * 4 * 6);
    expect(new Set(drawn).size).toBeGreaterThan(10);
    expect(await draw([2, 3, 4, 6], [2])).toEqual(drawn);
    expect(await draw([1, 3, 4, 6], [])).toEqual(drawn);
    await expect(
      pipeline('unconditional-image-generation', file, { device: 'cpu', sample_shape: [3, 8, 8] }),
    ).rejects.toThrow(/sample_shape \[3, 8, 8\]/);
  });

  it('is opened where the class of a folder is not registered', async () => {
    const target = path.join(folder, 'unregistered');
    await saveUNet(target);
    await writeFile(path.join(target, 'unet/config.json'), JSON.stringify({ _class_name: 'MyUNet' }));
    await saveUNet(path.join(folder, 'registered'));
    const draw = async (name: string) => {
      const opened = await pipeline('unconditional-image-generation', path.join(folder, name), {
        device: 'cpu',
      });
      const drawn = await opened({ batch_size: 2, num_inference_steps: 3, output_type: 'uint8' });
      await opened.dispose();
      return drawn;
    };
    expect(await draw('unregistered')).toEqual(await draw('registered'));
    await rm(path.join(target, 'unet/model.onnx'));
    await expect(draw('unregistered')).rejects.toThrow(/MyUNet, which is not registered/);
  });

  it('names what is wrong with other files', async () => {
    const graph = new Graph('text');
    graph.output('y', graph.input('x', 'float32', [1, 2]));
    const file = path.join(folder, 'other.onnx');
    await writeFile(file, writeOnnx(graph));
    await expect(pipeline('unconditional-image-generation', file, { device: 'cpu' })).rejects.toThrow(
      /inputs x \[1, 2\]/,
    );
    const missing = pipeline('unconditional-image-generation', './nowhere.onnx', { device: 'cpu' });
    await expect(missing).rejects.toThrow(OnnxFormatError);
  });
});

it('opens a folder of diffusers without an ONNX file, with the old names of attention', async () => {
  const fixture = new URL('../fixtures/unet/ddpm-style/', import.meta.url).pathname;
  const legacy = [
    ['to_q', 'query'],
    ['to_k', 'key'],
    ['to_v', 'value'],
    ['to_out.0', 'proj_attn'],
  ] as const;
  const weights = await readSafetensors(`${fixture}diffusion_pytorch_model.safetensors`);
  const renamed = [...weights].map(([name, tensor]) => {
    const [now, then] = legacy.find(([current]) => name.includes(`.${current}.`)) ?? ['', ''];
    return [name.replace(now, then), tensor] as const;
  });
  const target = path.join(folder, 'diffusers');
  await mkdir(path.join(target, 'unet'), { recursive: true });
  await mkdir(path.join(target, 'scheduler'));
  await cp(`${fixture}config.json`, path.join(target, 'unet/config.json'));
  await writeFileAtomic(
    path.join(target, 'unet/diffusion_pytorch_model.safetensors'),
    safetensorsChunks(new Map(renamed)),
  );
  const scheduler = { _class_name: 'DDPMScheduler', _diffusers_version: '0.30.3', num_train_timesteps: 1000 };
  await writeFile(path.join(target, 'scheduler/scheduler_config.json'), JSON.stringify(scheduler));
  const index = {
    _class_name: 'DDPMPipeline',
    _diffusers_version: '0.30.3',
    scheduler: ['diffusers', 'DDPMScheduler'],
    unet: ['diffusers', 'UNet2DModel'],
  };
  await writeFile(path.join(target, 'model_index.json'), JSON.stringify(index));

  const opened = await pipeline('unconditional-image-generation', target, { device: 'cpu' });
  const given = await readSafetensors(`${fixture}case.safetensors`);
  const timesteps = Array.from(given.get('timestep')?.data ?? [], Number);
  const output = await opened.model.predict(given.get('sample')?.data as Float32Array, timesteps);
  const expected = given.get('output')?.data as Float32Array;
  // Both sides compute in float32; torch differs from its own float64 by about 1e-6.
  const error = Math.hypot(...expected.map((value, i) => value - (output[i] as number)));
  expect(error).toBeLessThan(1e-5 * Math.hypot(...expected));
  await opened.dispose();
});
