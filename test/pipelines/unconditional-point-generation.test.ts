import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PreTrainedModel, PretrainedConfig, Tensor } from '@huggingface/transformers';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { ConfigError, FileFormatError, HubError, InvalidArgumentError, OnnxFormatError } from '../../src/errors.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import type { PointPipelineOptions, UnconditionalPointGenerationPipeline } from '../../src/pipelines/points.ts';
import { SampleStreams } from '../../src/random/sample-streams.ts';
import { DDIMScheduler } from '../../src/schedulers/index.ts';
import { savePipeline, scaler, schedulerOptions, temporaryFolder } from './saved-pipeline.ts';

const load = (folder: string, options: PointPipelineOptions = {}) =>
  pipeline('unconditional-point-generation', folder, { device: 'cpu', ...options });

let parent: string;
let folder: string;
let generate: UnconditionalPointGenerationPipeline;
beforeAll(async () => {
  parent = await temporaryFolder();
  folder = await savePipeline(parent);
  generate = await load(folder);
  return () => generate.dispose();
});

describe('generating', () => {
  it('draws one point by default, and as many as asked for', async () => {
    const one = await generate();
    expect(one.dims).toEqual([1, 2]);
    const many = await generate({ batch_size: 30 });
    expect(many.dims).toEqual([30, 2]);
    expect(many.points).toHaveLength(60);
    expect(many.points.slice(0, 2)).toEqual(one.points);
  });

  it('returns points in the units of the data, or of the model', async () => {
    const { points } = await generate({ batch_size: 4 });
    const scaled = await generate({ batch_size: 4, output_type: 'scaled' });
    scaled.points.forEach((value, i) => {
      const expected = value / (scaler.scale[i % 2] ?? 0) + (scaler.offset[i % 2] ?? 0);
      // One rounding to float32.
      expect(Math.abs((points[i] ?? Number.NaN) - expected)).toBeLessThan(1e-6 * Math.abs(expected) + 1e-6);
    });
  });

  it('takes a seed for each point', async () => {
    const listed = await generate({ batch_size: 2, seed: [11, 4] });
    expect(listed.points.slice(2)).toEqual((await generate({ seed: 4 })).points);
    expect(listed.points.slice(0, 2)).toEqual((await generate({ seed: 11 })).points);
  });

  it('takes another scheduler: an object, a config, or in place of its own', async () => {
    const ddim = new DDIMScheduler(schedulerOptions);
    const options = { batch_size: 3, num_inference_steps: 10 };
    const expected = await generate({ ...options, scheduler: ddim });
    expect(await generate({ ...options, scheduler: ddim.toConfig() })).toEqual(expected);
    expect(await generate(options)).not.toEqual(expected);
    const own = generate.scheduler;
    generate.scheduler = ddim;
    const replaced = await generate(options);
    generate.scheduler = own;
    expect(replaced).toEqual(expected);
  });

  it.each([
    [{ batch_size: 0 }],
    [{ batch_size: 1.5 }],
    [{ num_inference_steps: 0 }],
    [{ num_inference_steps: 101 }],
    [{ seed: -1 }],
    [{ batch_size: 3, seed: [1, 2] }],
    [{ output_type: 'pil' as 'points' }],
    [{ scheduler: new DDIMScheduler(schedulerOptions), eta: 2 }],
  ])('refuses %j', async (options) => {
    await expect(generate(options)).rejects.toThrow(InvalidArgumentError);
  });

  it('refuses a scheduler config of an unknown class', async () => {
    await expect(generate({ scheduler: { _class_name: 'KDPM2DiscreteScheduler' } })).rejects.toThrow(ConfigError);
  });
});

describe('the saved model', () => {
  it('predicts the same in transformers.js', async () => {
    class UNet extends PreTrainedModel {}
    const theirs = await UNet.from_pretrained(folder, {
      subfolder: 'unet',
      model_file_name: 'model',
      config: new PretrainedConfig({ model_type: 'custom' }),
      dtype: 'fp32',
      device: 'cpu',
      local_files_only: true,
    });
    const sample = new SampleStreams(1, 6, 2).fillNormal(new Float32Array(12));
    const { out_sample } = await theirs({
      sample: new Tensor('float32', sample, [6, 2]),
      timestep: new Tensor('int64', BigInt64Array.of(42n), [1]),
    });
    expect(out_sample.dims).toEqual([6, 2]);
    expect(Float32Array.from(out_sample.data)).toEqual(await generate.model.predict(sample, 42));
    await theirs.dispose();
  });

  it('takes one timestep, or one for each sample', async () => {
    const sample = new SampleStreams(1, 3, 2).fillNormal(new Float32Array(6));
    const mixed = await generate.model.predict(sample, [7, 50, 7]);
    const same = await generate.model.predict(sample, 7);
    // A row of a batch of time embeddings may round otherwise than a lone one.
    for (const i of [0, 1, 4, 5]) expect(mixed[i]).toBeCloseTo(same[i] ?? Number.NaN, 5);
    expect(Math.abs((mixed[2] ?? 0) - (same[2] ?? 0))).toBeGreaterThan(1e-3);
    await expect(generate.model.predict(sample, [1, 2])).rejects.toThrow(InvalidArgumentError);
    await expect(generate.model.predict(new Float32Array(5), 1)).rejects.toThrow(InvalidArgumentError);
  });
});

it('opens a model whose class is not registered by its ONNX file', async () => {
  const copy = path.join(parent, 'unregistered');
  await cp(folder, copy, { recursive: true });
  const config = path.join(copy, 'unet/config.json');
  await writeFile(config, JSON.stringify({ _class_name: 'MyNet', width: 3 }));
  const opened = await load(copy);
  expect(opened.model.config).toMatchObject({ _class_name: 'MyNet', width: 3 });
  const options = { batch_size: 4, num_inference_steps: 10, seed: 2 };
  expect(await opened(options)).toEqual(await generate(options));
  await opened.dispose();
  await expect(load(copy, { sample_shape: [3] })).rejects.toThrow(/sample_shape \[3\]/);
  await rm(path.join(copy, 'unet/model.onnx'));
  await expect(load(copy)).rejects.toThrow(/MyNet.*not registered.*unet\/model.onnx/);
});

describe('damaged folders', () => {
  const damages: [string, (copy: string) => Promise<void>, new (message: string) => Error][] = [];
  const damage = (name: string, error: new (message: string) => Error, change: (copy: string) => Promise<void>) =>
    damages.push([name, change, error]);
  const edit = (file: string, from: string, to: string) => async (copy: string) => {
    const text = await readFile(path.join(copy, file), 'utf8');
    expect(text).toContain(from);
    await writeFile(path.join(copy, file), text.replace(from, to));
  };

  for (const file of ['model_index.json', 'unet/config.json', 'scheduler/scheduler_config.json', 'point_scaler.json']) {
    damage(`without ${file}`, ConfigError, (copy) => rm(path.join(copy, file)));
    damage(`with text for ${file}`, ConfigError, (copy) => writeFile(path.join(copy, file), '{"_class'));
  }
  damage('without the model', FileFormatError, async (copy) => {
    await rm(path.join(copy, 'unet/model.onnx'));
    await rm(path.join(copy, 'unet/diffusion_pytorch_model.safetensors'));
  });
  damage('with half a model', OnnxFormatError, async (copy) => {
    const bytes = await readFile(path.join(copy, 'unet/model.onnx'));
    await writeFile(path.join(copy, 'unet/model.onnx'), bytes.subarray(0, bytes.length / 2));
  });
  damage('with an empty model', OnnxFormatError, (copy) => writeFile(path.join(copy, 'unet/model.onnx'), ''));
  damage(
    'of another number of features than its model',
    FileFormatError,
    edit('unet/config.json', '"in_features": 2', '"in_features": 3'),
  );
  damage('of an unknown model without ONNX', ConfigError, async (copy) => {
    await edit('unet/config.json', 'ConditionalDense', 'UNet9DModel')(copy);
    await rm(path.join(copy, 'unet/model.onnx'));
  });
  damage('with a scale of 0', ConfigError, edit('point_scaler.json', '0.5', '0'));

  it.each(damages)('%s', async (name, change, error) => {
    const copy = path.join(parent, name.replaceAll(/\W/g, '-'));
    await cp(folder, copy, { recursive: true });
    await change(copy);
    await expect(load(copy)).rejects.toThrow(error);
  });

  it('that is not there', async () => {
    await expect(load(path.join(parent, 'nothing'))).rejects.toThrow(FileFormatError);
  });

  it('is asked of the Hub where a relative path without a dot is no folder', async () => {
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
    await expect(load('runs/not-there')).rejects.toThrow(HubError);
    await expect(load('runs/not-there')).rejects.toThrow(/cannot be reached.*pass a local folder/);
    vi.unstubAllEnvs();
  });
});
