import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PreTrainedModel, PretrainedConfig, Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FileFormatError, InvalidArgumentError } from '../../src/errors.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { smallTrainer } from '../trainers/small-trainer.ts';

let folder: string;
let saved: string;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-pipeline-'));
  saved = path.join(folder, 'pipeline');
  const trainer = smallTrainer({ output_dir: path.join(folder, 'run'), max_steps: 100 });
  await trainer.train();
  await trainer.savePipeline(saved);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const load = () => pipeline('unconditional-point-generation', saved, { device: 'cpu' });

describe('unconditional-point-generation', () => {
  it('gives the same points for the same seed, whatever the batch size', async () => {
    const generate = await load();
    const { points, dims } = await generate({ batch_size: 5, num_inference_steps: 20, seed: 3 });
    expect(dims).toEqual([5, 2]);
    expect((await generate({ batch_size: 5, num_inference_steps: 20, seed: 3 })).points).toEqual(points);
    const two = await generate({ batch_size: 2, num_inference_steps: 20, seed: 3 });
    two.points.forEach((value, i) => {
      expect(value).toBeCloseTo(points[i] as number, 4);
    });
    expect((await generate({ batch_size: 5, num_inference_steps: 20, seed: 4 })).points).not.toEqual(points);
    await generate.dispose();
  });

  it.each([
    ['DDPM', new DDPMScheduler({ clip_sample: false }), {}],
    ['DDPM that clips', new DDPMScheduler(), {}],
    ['DDIM', new DDIMScheduler({ clip_sample: false }), {}],
    ['DDIM with noise', new DDIMScheduler({ clip_sample: false }), { eta: 0.7 }],
    ['a config', { _class_name: 'DDIMScheduler' }, {}],
  ])('with %s: one graph and single steps give the same bits', async (_name, scheduler, extra) => {
    const generate = await load();
    const options = { batch_size: 7, num_inference_steps: 30, seed: 1, scheduler, ...extra };
    const whole = await generate(options);
    const steps: number[] = [];
    const stepwise = await generate({
      ...options,
      callback_on_step_end: (step: number) => void steps.push(step),
    });
    expect(steps).toHaveLength(30);
    expect(stepwise.points).toEqual(whole.points);
    await generate.dispose();
  });

  it('stops when aborted', async () => {
    const generate = await load();
    const controller = new AbortController();
    const run = generate({
      batch_size: 2,
      signal: controller.signal,
      callback_on_step_end: () => controller.abort(new Error('enough')),
    });
    await expect(run).rejects.toThrow('enough');
    await generate.dispose();
  });

  it('refuses wrong options', async () => {
    const generate = await load();
    await expect(generate({ batch_size: 0 })).rejects.toThrow(InvalidArgumentError);
    await expect(generate({ num_inference_steps: 1001 })).rejects.toThrow(/1001/);
    await expect(generate({ batch_size: 2, seed: [1] })).rejects.toThrow(/list of 1/);
    await generate.dispose();
  });

  it.each([
    ['unet_ema/model.onnx', (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    ['scheduler/scheduler_config.json', () => Buffer.from('{"_class_name": "PNDM"}')],
    ['model_index.json', () => Buffer.from('{')],
    ['point_scaler.json', () => Buffer.from('{"kind": "none", "offset": [0], "scale": [1]}')],
    ['point_scaler.json', () => Buffer.from('{"kind": "none", "offset": [0, 0], "scale": [1, 1], "columns": ["x"]}')],
    [
      'point_scaler.json',
      () => Buffer.from('{"kind": "none", "offset": [0, 0], "scale": [1, 1], "columns": ["x", ""]}'),
    ],
    ['unet/config.json', () => Buffer.from('[]')],
  ])('names what is damaged: %s', async (file, damage) => {
    const broken = path.join(folder, `broken-${file.replaceAll('/', '-')}`);
    cpSync(saved, broken, { recursive: true });
    writeFileSync(path.join(broken, file), damage(readFileSync(path.join(broken, file))));
    await expect(pipeline('unconditional-point-generation', broken, { device: 'cpu' })).rejects.toThrow(
      FileFormatError,
    );
  });

  it("loads as transformers.js's PreTrainedModel with the same output", async () => {
    class PointModel extends PreTrainedModel {}
    const model = await PointModel.from_pretrained(saved, {
      subfolder: 'unet_ema',
      model_file_name: 'model',
      config: new PretrainedConfig({ model_type: 'custom' }),
      dtype: 'fp32',
      local_files_only: true,
    });
    const sample = Float32Array.of(0.5, -0.5, 1, 2);
    const { out_sample } = await model({
      sample: new Tensor('float32', sample, [2, 2]),
      timestep: new Tensor('int64', BigInt64Array.of(10n), [1]),
    });
    const generate = await load();
    expect(out_sample.data).toEqual(await generate.model.predict(sample, 10));
    await generate.dispose();
    await model.dispose();
  });
});
