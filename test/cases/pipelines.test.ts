// How pipelines were used, and failed, in the hands of others.
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readlink, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DisposedError, FileFormatError, InvalidArgumentError } from '../../src/errors.ts';
import { RawPixels } from '../../src/evaluation/index.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { mul } from '../../src/graph/ops/index.ts';
import { evaluate, isoLoss, kernelDistance, loadImages, loadPoints, Trainer } from '../../src/index.ts';
import { pipeline, type UnconditionalImageGenerationPipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler } from '../../src/schedulers/index.ts';
import { savePipeline, temporaryFolder } from '../pipelines/saved-pipeline.ts';
import { saveUNet } from '../pipelines/saved-unet.ts';

const folder = await temporaryFolder();
const pointFolder = await savePipeline(folder, 'points');
const imageFolder = path.join(folder, 'images');
await saveUNet(imageFolder);
const device = 'cpu' as const;
const openImages = () => pipeline('unconditional-image-generation', imageFolder, { device });
const openPoints = () => pipeline('unconditional-point-generation', pointFolder, { device });

describe('dispose', () => {
  const few = { num_inference_steps: 2 };
  const uses = (generate: UnconditionalImageGenerationPipeline) => [
    generate(few),
    generate({ ...few, output_type: 'tensor' }),
    generate({ ...few, output_type: 'uint8' }),
    generate.toFolder(path.join(folder, 'never'), { ...few, count: 1 }),
    generate.batches({ ...few, count: 1 }).next(),
    generate.model.predict(new Float32Array(64), 1),
    evaluate({
      real: 'digits',
      fake: generate,
      metrics: ['fid'],
      extractor: 'raw-pixels',
      num_real: 80,
      num_samples: 80,
    }),
  ];

  it('of a pipeline of images: twice is harmless, a call under way and every use afterwards say so', async () => {
    const generate = await openImages();
    await generate.toFolder(path.join(folder, 'full'), { ...few, count: 1 });
    let running: Promise<unknown> | undefined;
    await new Promise<void>((resolve) => {
      const options = { num_inference_steps: 1000, batch_size: 8, output_type: 'tensor' } as const;
      running = generate({ ...options, on_progress: () => resolve() });
      running.catch(() => undefined);
    });
    await Promise.all([generate.dispose(), generate.dispose()]);
    await expect(running).rejects.toThrow(DisposedError);
    for (const use of await Promise.allSettled(uses(generate)))
      expect(use).toMatchObject({ status: 'rejected', reason: { name: 'DisposedError', message: /dispose\(\)/ } });
    // Also where every image is there already, and nothing would be drawn.
    await expect(generate.toFolder(path.join(folder, 'full'), { ...few, count: 1 })).rejects.toThrow(DisposedError);
    expect(existsSync(path.join(folder, 'never'))).toBe(false);
    await generate.dispose();
  });

  it('of a pipeline of points, in one graph, in workers and step by step', async () => {
    const generate = await openPoints();
    await generate({ ...few, batch_size: 2 });
    const running: Promise<unknown>[] = [];
    // The first has not ended when the second has taken a step of its hundred.
    await new Promise<void>((resolve) =>
      running.push(
        generate({ num_inference_steps: 100, batch_size: 20_000 }),
        generate({ num_inference_steps: 100, callback_on_step_end: () => resolve() }),
      ),
    );
    const ended = Promise.allSettled(running);
    await generate.dispose();
    for (const call of await ended) expect(call).toMatchObject({ reason: { name: 'DisposedError' } });
    for (const options of [few, { ...few, batch_size: 9000 }, { ...few, callback_on_step_end: () => {} }, {}])
      await expect(generate(options)).rejects.toThrow(DisposedError);
    await generate.dispose();
  });

  it('of an extractor', async () => {
    const shape = { height: 2, width: 2, channels: 1 };
    const extractor = new RawPixels(shape);
    await extractor.dispose();
    await extractor.dispose();
    await expect(extractor.extract([{ ...shape, data: new Uint8Array(4) }])).rejects.toThrow(DisposedError);
  });
});

describe('image i of a batch', () => {
  it('depends on its seed alone, also where calls run at the same time', async () => {
    const generate = await openImages();
    const draw = async (more: object) => {
      const { data } = await generate({ num_inference_steps: 10, output_type: 'tensor', ...more });
      return [...(data as Float32Array)];
    };
    const one = await draw({ seed: 7 });
    const [five, forty, list] = [
      await draw({ seed: 7, batch_size: 5 }),
      await draw({ seed: 7, batch_size: 40 }),
      await draw({ seed: [8, 7], batch_size: 2 }),
    ];
    expect([five.slice(0, 64), forty.slice(0, 64), list.slice(64)]).toEqual([one, one, one]);
    expect(five.slice(64, 128)).toEqual(forty.slice(64, 128));
    const [a, b] = await Promise.all([draw({ seed: 1 }), draw({ seed: 1, num_inference_steps: 25 })]);
    expect([a, b]).toEqual([await draw({ seed: 1 }), await draw({ seed: 1, num_inference_steps: 25 })]);
    await generate.dispose();
  });
});

describe('channels', () => {
  /** A model of samples of any shape: the output is a tenth of the sample. */
  function tenth(shape: readonly number[]): Uint8Array {
    const graph = new Graph('tenth');
    const sample = graph.input('sample', 'float32', ['batch', ...shape]);
    graph.input('timestep', 'int64', [1]);
    graph.output('out_sample', mul(sample, graph.constant('float32', [], Float32Array.of(0.1))));
    return writeOnnx(graph);
  }

  it.each([2, 5, 6])('%i of them give tensors and bytes, and images are refused by name', async (channels) => {
    const file = path.join(folder, `channels-${channels}.ONNX`);
    await writeFile(file, tenth([channels, 4, 4]));
    const generate = await pipeline('unconditional-image-generation', file, { device });
    const options = { num_inference_steps: 3, seed: 2, batch_size: 2 };
    const tensor = await generate({ ...options, output_type: 'tensor' });
    expect(tensor.dims).toEqual([2, channels, 4, 4]);
    const bytes = await generate({ ...options, output_type: 'uint8' });
    expect(bytes).toMatchObject({ count: 2, height: 4, width: 4, channels });
    const [value = 0] = tensor.data as Float32Array;
    // [count, channels, height, width] against [count, height, width, channels]
    expect(bytes.data[0]).toBe(Math.round(value * 255));
    const last = (tensor.data as Float32Array).at(-1) ?? Number.NaN;
    expect(bytes.data.at(-1)).toBe(Math.round(last * 255));
    const parts: number[] = [];
    for await (const part of generate.batches({ num_inference_steps: 3, seed: 2, count: 2, batch_size: 1 }))
      parts.push(...part.data);
    expect(parts).toEqual([...bytes.data]);
    const message = new RegExp(`${channels} channels.*output_type 'tensor' or 'uint8'`);
    await expect(generate(options)).rejects.toThrow(message);
    const target = path.join(folder, `refused-${channels}`);
    await expect(generate.toFolder(target, { count: 1 })).rejects.toThrow(message);
    expect(existsSync(target)).toBe(false);
    await generate.dispose();
  });

  it('of a U-Net too', async () => {
    const target = path.join(folder, 'five');
    await saveUNet(target, { in_channels: 5, out_channels: 5 });
    const generate = await pipeline('unconditional-image-generation', target, { device });
    const { dims } = await generate({ num_inference_steps: 1, output_type: 'tensor' });
    expect(dims).toEqual([1, 5, 8, 8]);
    await generate.dispose();
  });
});

describe('what is given by mistake', () => {
  it.each([
    [{ num_inference_step: 5 }, /'num_inference_step' \(did you mean 'num_inference_steps'\?\)/],
    [{ generator: 5 }, /unknown option 'generator'.*there are .*seed/s],
    [{ num_inference_steps: '50' }, /must be a number\s+→ at num_inference_steps/],
    [{ num_inference_steps: 0 }, /num_inference_steps is 0/],
    [{ num_inference_steps: 1001 }, /num_inference_steps is 1001/],
    [{ seed: '7' }, /must be a number or a list of numbers\s+→ at seed/],
    [{ seed: -1 }, /seed is -1/],
    [{ eta: null }, /must be a number\s+→ at eta/],
    [{ scheduler: 5 }, /must be a scheduler/],
    [{ callback_on_step_end: true }, /must be a function/],
    [{ signal: {} }, /must be an AbortSignal/],
    [null, /expected object/],
    [5, /expected object/],
  ])('in a call: %j', async (options, message) => {
    const [images, points] = [await openImages(), await openPoints()];
    const given = options as never;
    const counted = (typeof options === 'object' && options ? { ...options, count: 1 } : options) as never;
    const calls: (() => Promise<unknown>)[] = [
      () => images(given),
      () => points(given),
      () => images.toFolder(path.join(folder, 'never'), counted),
      () => images.batches(counted).next(),
    ];
    for (const call of calls) {
      await expect(call()).rejects.toThrow(InvalidArgumentError);
      await expect(call()).rejects.toThrow(message);
    }
    expect(existsSync(path.join(folder, 'never'))).toBe(false);
    await Promise.all([images.dispose(), points.dispose()]);
  });

  it.each([
    [{ devices: 'cpu' }, /'devices' \(did you mean 'device'\?\)/],
    [{ subfolder: 'unet' }, /unknown option 'subfolder'/],
    [{ ema: 'yes' }, /→ at ema/],
    [{ sample_shape: 8 }, /must be a list of numbers/],
    [{ progress_callback: 1 }, /must be a function/],
    [null, /expected object/],
  ])('in pipeline(): %j', async (options, message) => {
    const openings = [
      () => pipeline('unconditional-image-generation', imageFolder, options as never),
      () => pipeline('unconditional-point-generation', pointFolder, options as never),
    ];
    for (const open of openings) {
      await expect(open()).rejects.toThrow(InvalidArgumentError);
      await expect(open()).rejects.toThrow(message);
    }
  });

  it('a model or a task that is no text', async () => {
    for (const model of [undefined, null, 5, {}, '', () => 1])
      await expect(pipeline('unconditional-image-generation', model as never)).rejects.toThrow(/no model was named/);
    for (const task of [undefined, null, 5, {}])
      await expect(pipeline(task as never, imageFolder)).rejects.toThrow(InvalidArgumentError);
  });

  it('elsewhere: an InvalidArgumentError, never a TypeError', async () => {
    const points = await loadPoints('moons', { n: 4 });
    const ddim = new DDIMScheduler();
    const values = new Float32Array(2);
    const mistakes: (() => unknown)[] = [
      () => ddim.setTimesteps(5, null as never),
      () => ddim.setTimesteps(undefined, { timesteps: 5 as never }),
      () => ddim.step(null as never, 1, values),
      () => ddim.step(values, 1, values, null as never),
      () => ddim.addNoise(values, null as never, [1], 2),
      () => isoLoss(undefined as never),
      () => isoLoss({ lambda: 0.1, base: 'simple' as never }),
      () => kernelDistance(null as never, points),
      () => kernelDistance(points, points, null as never),
      () => loadPoints(null as never),
      () => loadPoints('moons', null as never),
      () => loadImages(5 as never),
      () => new Trainer(undefined as never),
      () => new Trainer({ train_dataset: points } as never),
      () => evaluate({ real: null as never, fake: points }),
      () => evaluate({ real: points, fake: points, on_progress: 5 as never }),
    ];
    for (const [i, mistake] of mistakes.entries())
      await expect((async () => mistake())(), `mistake ${i}`).rejects.toThrow(InvalidArgumentError);
  });
});

describe('folders and links', () => {
  it('a run folder is refused with the folder to give', async () => {
    const run = path.join(folder, 'run');
    await mkdir(path.join(run, 'checkpoint-3'), { recursive: true });
    await writeFile(path.join(run, 'checkpoint-3', 'trainer_state.json'), '{}');
    const open = (name: string) => pipeline('unconditional-point-generation', name, { device });
    await expect(open(run)).rejects.toThrow(/folder of a training run.*savePipeline/);
    await expect(open(path.join(run, 'checkpoint-3'))).rejects.toThrow(/a checkpoint of a training run/);
    await savePipeline(run);
    await expect(open(run)).rejects.toThrow(FileFormatError);
    await expect(open(run)).rejects.toThrow(`pass ${path.join(run, 'pipeline')}`);
    const former = process.cwd();
    process.chdir(path.dirname(folder));
    // Without ./ it has the form of a Hub id, but is never asked for there.
    await expect(open(path.relative(process.cwd(), run))).rejects.toThrow(/but holds one/);
    process.chdir(former);
  });

  it('a pipeline is saved through a link, which stays', async () => {
    const disk = path.join(folder, 'disk');
    await mkdir(disk);
    for (const exists of [true, false]) {
      const target = path.join(disk, exists ? 'there' : 'not-yet');
      if (exists) await savePipeline(disk, 'there');
      const link = path.join(folder, `link-${exists}`);
      await symlink(target, link);
      await savePipeline(folder, path.basename(link));
      expect(await readlink(link)).toBe(target);
      expect(existsSync(path.join(target, 'model_index.json'))).toBe(true);
      const generate = await pipeline('unconditional-point-generation', link, { device });
      await generate.dispose();
    }
    const file = path.join(folder, 'note.txt');
    await writeFile(file, 'kept');
    await symlink(file, path.join(folder, 'link-file'));
    await expect(savePipeline(folder, 'link-file')).rejects.toThrow(InvalidArgumentError);
    await mkdir(path.join(disk, 'other'));
    await copyFile(file, path.join(disk, 'other', 'note.txt'));
    await symlink(path.join(disk, 'other'), path.join(folder, 'link-other'));
    await expect(savePipeline(folder, 'link-other')).rejects.toThrow(/is not replaced/);
    expect(existsSync(path.join(disk, 'other', 'note.txt'))).toBe(true);
  });
});

it('a config with steps_offset 1 and the default number of steps is refused by name before it is drawn from', async () => {
  const target = path.join(folder, 'offset');
  await saveUNet(target, {}, { steps_offset: 1 });
  const generate = await pipeline('unconditional-image-generation', target, { device });
  await expect(generate({ output_type: 'tensor' })).rejects.toThrow(/steps_offset 1.*num_inference_steps/);
  const { dims } = await generate({ output_type: 'tensor', num_inference_steps: 5 });
  expect(dims).toEqual([1, 1, 8, 8]);
  await generate.dispose();
});
