import path from 'node:path';
import { Tensor } from '@huggingface/transformers';
import { beforeAll, describe, expect, it } from 'vitest';
import { pointsFromArray } from '../../../src/datasets/index.ts';
import { InvalidArgumentError } from '../../../src/errors.ts';
import { simpleLoss } from '../../../src/losses/index.ts';
import { ConditionalDense } from '../../../src/models/index.ts';
import { pipeline } from '../../../src/pipelines/pipeline.ts';
import type { PointGenerationOptions, UnconditionalPointGenerationPipeline } from '../../../src/pipelines/points.ts';
import { SampleStreams } from '../../../src/random/sample-streams.ts';
import { DDIMScheduler, DDPMScheduler } from '../../../src/schedulers/index.ts';
import { DDIMInverseScheduler } from '../../../src/schedulers/solvers/ddim-inverse.ts';
import { Trainer } from '../../../src/trainers/index.ts';
import { savePipeline, scaler, schedulerOptions, temporaryFolder } from '../saved-pipeline.ts';

let generate: UnconditionalPointGenerationPipeline;
beforeAll(async () => {
  generate = await pipeline('unconditional-point-generation', await savePipeline(await temporaryFolder()), {
    device: 'cpu',
  });
  return () => generate.dispose();
});

const SCHEDULERS = [
  'ddpm',
  'ddim',
  'dpm++',
  'dpm++-single',
  'unipc',
  'euler',
  'euler-a',
  'heun',
  'pndm',
  'lms',
  'deis',
];
const STEPS = 8;
const normals = (count: number, seed = 3) => new SampleStreams(seed, count, 2).fillNormal(new Float32Array(2 * count));
/** A call that changes nothing goes step by step, with the same numbers as inside one graph. */
const stepwise = { callback_on_step_end: () => undefined };
const given = Float32Array.from([3.2, -1.1, 2.5, -0.9, 4, -1.2]);

describe('latents', () => {
  it.each(SCHEDULERS)('of %s are the noise of the seed, and give the same points again', async (scheduler) => {
    const options = { scheduler, num_inference_steps: STEPS, batch_size: 3, seed: 3 };
    const { points, latents } = await generate({ ...options, return_latents: true });
    expect(latents).toEqual(normals(3));
    expect(points).toEqual((await generate(options)).points);
    expect((await generate({ ...options, latents })).points).toEqual(points);
    const tensor = new Tensor('float32', latents, [3, 2]);
    expect((await generate({ ...options, latents: tensor, ...stepwise })).points).toEqual(points);
    const last = await generate({ ...options, batch_size: 1, seed: [3], latents: latents.slice(4) });
    if (!['ddpm', 'euler-a'].includes(scheduler)) expect(last.points).toEqual(points.slice(4));
  });

  it('are copied when the call is made', async () => {
    const latents = normals(1);
    const call = generate({ latents, num_inference_steps: STEPS });
    latents.fill(0);
    expect((await call).points).toEqual((await generate({ latents: normals(1), num_inference_steps: STEPS })).points);
  });
});

describe('interpolation', () => {
  it.each(['ddpm', 'ddim', 'dpm++', 'euler-a'])('with %s ends at the points of both ends', async (scheduler) => {
    const options = { scheduler, num_inference_steps: STEPS };
    const [first, last] = [await generate({ ...options, seed: 5 }), await generate({ ...options, seed: 9 })];
    const frames = await generate.interpolate(5, 9, 5, options);
    expect(frames.dims).toEqual([5, 2]);
    expect(frames.points.slice(0, 2)).toEqual(first.points);
    expect(frames.points.slice(8)).toEqual(last.points);
    expect(await generate.interpolate(5, 9, 5, { ...options, ...stepwise })).toEqual(frames);
    const mixed = await generate.interpolate(normals(1, 5), 9, 3, { ...options, seed: 5 });
    expect(mixed.points.slice(2, 4)).toEqual(frames.points.slice(4, 6));
  });

  it('goes along the great circle', async () => {
    const [a, b] = [new Float32Array([2, 0]), new Float32Array([0, 1])];
    const { points } = await generate.interpolate(a, b, 3, {
      num_inference_steps: 2,
      output_type: 'scaled',
      scheduler: 'ddim',
    });
    const half = new Float32Array([2 * Math.SQRT1_2, Math.SQRT1_2]);
    const middle = await generate({ latents: half, num_inference_steps: 2, output_type: 'scaled', scheduler: 'ddim' });
    expect(points[2]).toBeCloseTo(middle.points[0] ?? Number.NaN, 5);
    expect(points[3]).toBeCloseTo(middle.points[1] ?? Number.NaN, 5);
  });
});

describe('given points', () => {
  it.each(SCHEDULERS)('come back from %s with strength 0, and change the more the greater it is', async (scheduler) => {
    const options = { scheduler, num_inference_steps: 10, batch_size: 3, points: given };
    const same = await generate({ ...options, strength: 0 });
    same.points.forEach((value, i) => {
      expect(value).toBeCloseTo(given[i] ?? Number.NaN, 5);
    });
    const steps: number[] = [];
    const callback_on_step_end = (_: number, timestep: number) => void steps.push(timestep);
    await generate({ ...options, strength: 0.31, callback_on_step_end });
    expect(new Set(steps).size).toBeLessThanOrEqual(scheduler === 'pndm' ? 4 : 3);
    expect(steps.length).toBe({ heun: 5, pndm: 3 }[scheduler] ?? 3);
  });

  it('begin as diffusers makes them: signal and noise of the first timestep', async () => {
    let first: number[] = [];
    const callback_on_step_end = (step: number, _: number, { sample }: { sample: Float32Array }) => {
      if (step === 0) first = [...sample];
    };
    const options = { points: given, batch_size: 3, strength: 0.5, num_inference_steps: 4, seed: 3 };
    const scheduler = new DDIMScheduler(schedulerOptions);
    await generate({ ...options, scheduler, callback_on_step_end });
    scheduler.setTimesteps(4);
    const [, , timestep = 0] = scheduler.timesteps;
    const scaled = given.map((x, i) => (x - (scaler.offset[i % 2] ?? 0)) * (scaler.scale[i % 2] ?? 1));
    const noisy = scheduler.addNoise(scaled, normals(3), [timestep, timestep, timestep], 2);
    const output = await generate.model.predict(noisy, timestep);
    const expected = scheduler.step(output, timestep, noisy).prev_sample;
    first.forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i] ?? Number.NaN, 5);
    });
  });

  it('keep the coordinates that a mask keeps', async () => {
    for (const scheduler of SCHEDULERS) {
      const options = { scheduler, num_inference_steps: 8, batch_size: 3, jump_length: 2, jump_n_sample: 3, seed: 1 };
      const { points } = await generate({ ...options, points: given, mask: [0, 1] });
      for (const i of [0, 2, 4]) expect(points[i], scheduler).toBeCloseTo(given[i] ?? Number.NaN, 5);
      for (const i of [1, 3, 5]) expect(points[i], scheduler).not.toBeCloseTo(given[i] ?? Number.NaN, 3);
      const alone = await generate({ ...options, batch_size: 1, points: given.slice(0, 2), mask: [false, true] });
      expect(alone.points, scheduler).toEqual(points.slice(0, 2));
    }
  });

  it('go through the steps in the order of RePaint', async () => {
    const visited: number[] = [];
    const callback_on_step_end = (_: number, timestep: number) => void visited.push(timestep / 10);
    const jumps = { jump_length: 2, jump_n_sample: 2, num_inference_steps: 10 };
    await generate({ ...jumps, scheduler: 'ddim', points: given.slice(0, 2), mask: [0, 1], callback_on_step_end });
    // The reverse steps of diffusers' RePaintScheduler.set_timesteps(10, 2, 2), worked out by hand from its code.
    expect(visited).toEqual([9, 8, 7, 6, 7, 6, 5, 4, 5, 4, 3, 2, 3, 2, 1, 0, 1, 0]);
  });
});

it('calls at once equal calls one after the other, and an aborted one leaves nothing behind', async () => {
  const call = (seed: number, more: PointGenerationOptions = {}) =>
    generate({
      scheduler: 'dpm++',
      num_inference_steps: 12,
      batch_size: 3,
      points: given,
      mask: [0, 1],
      seed,
      ...more,
    });
  const inTurn = [await call(1), await call(2)];
  const abort = new AbortController();
  const stopped = call(3, {
    signal: abort.signal,
    on_progress: (done) => done > 0.3 && abort.abort(new Error('enough')),
  });
  const atOnce = await Promise.all([call(1), call(2), expect(stopped).rejects.toThrow('enough')]);
  expect(atOnce.slice(0, 2)).toEqual(inTurn);
  expect(await call(1)).toEqual(inTurn[0]);
});

describe('inversion', () => {
  it('depends on no other point', async () => {
    const latents = await generate.invert(given, { num_inference_steps: 10 });
    expect(await generate.invert(given.slice(2, 4), { num_inference_steps: 10 })).toEqual(latents.slice(2, 4));
  });

  it('scales the predicted noise as the call that draws from what it finds: the last factor comes first', async () => {
    const scheduler = new DDIMInverseScheduler({ ...schedulerOptions, clip_sample: false });
    scheduler.setTimesteps(3);
    let sample: Float32Array = given.map((x, i) => (x - (scaler.offset[i % 2] ?? 0)) * (scaler.scale[i % 2] ?? 1));
    for (const [step, timestep] of scheduler.timesteps.entries()) {
      const output = await generate.model.predict(sample, timestep);
      const scale = [1.1, 0.95, 0.8][step] ?? 1;
      sample = scheduler.step(
        output.map((x) => scale * x),
        timestep,
        sample,
      ).prev_sample;
    }
    const latents = await generate.invert(given, { num_inference_steps: 3, noise_scale: [0.8, 1.1] });
    latents.forEach((value, i) => {
      expect(value).toBeCloseTo(sample[i] ?? Number.NaN, 4);
    });
    await expect(generate.invert(given, { iso_lambda: 0.1 })).rejects.toThrow('needs the isotropy of the model');
    await expect(generate.invert(given, { noise_scale: -1 })).rejects.toThrow('noise_scale is -1');
  });

  it('of a trained model gives noise, from which DDIM draws the points again, the better the more steps', async () => {
    const ring = Float32Array.from({ length: 1000 }, (_, i) => {
      const angle = (2 * Math.PI * (i >> 1)) / 500;
      return 5 * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
    });
    const folder = await temporaryFolder();
    const trainer = new Trainer({
      model: new ConditionalDense({ hidden_features: 64 }),
      args: { output_dir: folder, max_steps: 1200, learning_rate: 2e-3, device: 'cpu' },
      train_dataset: pointsFromArray(ring, 2),
      loss: simpleLoss(),
      noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    });
    await trainer.train();
    await trainer.savePipeline(path.join(folder, 'pipeline'));
    const trained = await pipeline('unconditional-point-generation', path.join(folder, 'pipeline'), { device: 'cpu' });
    const errors: number[] = [];
    for (const num_inference_steps of [10, 50, 200]) {
      const latents = await trained.invert(ring, { num_inference_steps });
      const call = { latents, batch_size: 500, scheduler: 'ddim', num_inference_steps };
      const { points } = await trained(call);
      errors.push(points.reduce((sum, value, i) => sum + Math.abs(value - (ring[i] ?? 0)), 0) / ring.length / 5);
      const square = latents.reduce((sum, value) => sum + value * value, 0) / latents.length;
      expect(Math.abs(square - 1)).toBeLessThan(0.4);
    }
    await trained.dispose();
    const [few = 0, some = 0, many = 0] = errors;
    expect(many).toBeLessThan(some);
    expect(some).toBeLessThan(few);
    // Of a radius of 1.
    expect(some).toBeLessThan(0.05);
    expect(many).toBeLessThan(0.02);
  });
});

describe('wrong input is refused before any work', () => {
  const refused = (options: unknown, message: string | RegExp) =>
    expect(generate(options as PointGenerationOptions)).rejects.toThrow(
      expect.objectContaining({ constructor: InvalidArgumentError, message: expect.stringMatching(message) }),
    );

  it('latents', async () => {
    await refused({ latents: normals(2) }, 'shape \\[4\\], but must have \\[1, 2\\]');
    await refused({ latents: new Tensor('float32', normals(2), [4, 1]), batch_size: 2 }, 'must have \\[2, 2\\]');
    await refused({ latents: new Float32Array([0, Number.NaN]) }, 'value 1 is NaN');
    await refused({ latents: [0, 1] }, 'must be a Float32Array or a Tensor');
    await refused({ return_latents: 1 }, 'return_latents');
  });

  it('given points', async () => {
    const points = [1, 2];
    await refused({ points, strength: 1.1 }, 'strength is 1.1, but must be in \\[0, 1\\]');
    await refused({ points, strength: Number.NaN }, 'strength is NaN');
    await refused({ points, strength: '1' }, 'must be a number');
    await refused({ strength: 0.5 }, 'without points');
    await refused({ points, jump_length: 3 }, 'without mask');
    await refused({ points, mask: [0, 1], jump_n_sample: 0 }, 'jump_n_sample is 0');
    await refused({ points, mask: [0, 1, 1] }, 'mask has 3 values');
    await refused({ points, mask: [0, 2] }, 'value 1 of mask is 2');
    await refused({ mask: [0, 1] }, 'without points');
    await refused({ points: [1, 2, 3] }, '3 numbers');
    await refused({ points: [1, Number.NaN] }, 'axis 1: NaN');
  });

  it('interpolation and inversion', async () => {
    await expect(generate.interpolate(1, 2, 1)).rejects.toThrow('from 2 to 2^28');
    await expect(generate.interpolate(-1, 2, 3)).rejects.toThrow('the first end is -1');
    await expect(generate.interpolate(1, normals(2), 3)).rejects.toThrow('the second end has the shape');
    await expect(generate.invert([])).rejects.toThrow('0 numbers');
    await expect(generate.invert([1, 2], { num_inference_steps: 101 })).rejects.toThrow('101');
  });
});
