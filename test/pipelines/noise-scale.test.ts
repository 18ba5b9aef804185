import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { minimiserScale } from '../../src/losses/index.ts';
import {
  pipeline,
  type UnconditionalImageGenerationPipeline,
  type UnconditionalPointGenerationPipeline,
} from '../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler, type Scheduler } from '../../src/schedulers/index.ts';
import type { StepOptions } from '../../src/schedulers/steps.ts';
import { savePipeline, schedulerOptions } from './saved-pipeline.ts';
import { saveUNet } from './saved-unet.ts';

let parent: string;
let folder: string;
let points: UnconditionalPointGenerationPipeline;
let images: UnconditionalImageGenerationPipeline;
beforeAll(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'iso-noise-scale-'));
  folder = await savePipeline(parent);
  points = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
  await saveUNet(path.join(parent, 'unet'));
  images = await pipeline('unconditional-image-generation', path.join(parent, 'unet'), { device: 'cpu' });
});
afterAll(async () => {
  await points.dispose();
  await images.dispose();
  await rm(parent, { recursive: true, force: true });
});

const ddpm = { isotropy: 0.84, lambda: 0 };
const call = { batch_size: 5, num_inference_steps: 20, seed: 3 };
const stepwise = { callback_on_step_end: () => {} };
const draw = async (options = {}) => (await points({ ...call, output_type: 'scaled', ...options })).points;
const drawImages = async (options = {}) => (await images({ ...call, output_type: 'uint8', ...options })).data;

/** In a step of its own, with nothing of `noise_scale`: the scheduler scales the noise that an output stands for. */
function scaling(scheduler: Scheduler, scaleAt: (step: number) => number): Scheduler {
  const { prediction_type } = scheduler.config;
  const copy = scheduler.clone();
  const inner = new DDPMScheduler({ ...schedulerOptions, prediction_type: 'epsilon' });
  let step = 0;
  const set = copy.setTimesteps.bind(copy);
  return Object.assign(copy, {
    clone: () => copy,
    setTimesteps: (count: number) => {
      step = 0;
      set(count);
      inner.setTimesteps(count);
    },
    stepCoefficients: () => null,
    step: (output: Float32Array, timestep: number, x: Float32Array, options: StepOptions) => {
      const bar = scheduler.alphasCumprod[timestep] ?? 1;
      const scale = scaleAt(step++);
      const epsilon = output.map((y, i) => {
        const given = x[i] ?? 0;
        if (prediction_type === 'epsilon') return scale * y;
        if (prediction_type === 'v_prediction') return scale * (Math.sqrt(1 - bar) * given + Math.sqrt(bar) * y);
        return (scale * (given - Math.sqrt(bar) * y)) / Math.sqrt(1 - bar);
      });
      return inner.step(epsilon, timestep, x, options);
    },
  });
}

function relativeDistance(a: Float32Array, b: Float32Array): number {
  const largest = Math.max(...b.map(Math.abs));
  return Math.max(...a.map((value, i) => Math.abs(value - (b[i] ?? Number.NaN)))) / largest;
}

describe('a plain call', () => {
  it.each([
    ['lambda 0 of a DDPM model', { iso_lambda: 0, isotropy: ddpm }],
    ['the lambda of the training', { iso_lambda: 0.3, isotropy: { isotropy: 0.9, lambda: 0.3 } }],
    ['a noise_scale of 1', { noise_scale: 1 }],
  ])('has the same bits with %s', async (_name, options) => {
    expect(await draw(options)).toEqual(await draw());
    expect(await draw({ ...options, ...stepwise })).toEqual(await draw(stepwise));
    expect(await drawImages(options)).toEqual(await drawImages());
  });
});

describe('the scaled noise', () => {
  for (const prediction_type of ['epsilon', 'v_prediction', 'sample'] as const)
    for (const noise_scale of [1.05, [0.97, 1.02]] as const) {
      const name = `${prediction_type}, ${JSON.stringify(noise_scale)}`;
      const [first, last] = typeof noise_scale === 'number' ? [noise_scale, noise_scale] : noise_scale;
      const scaleAt = (step: number) => first + ((last - first) * step) / (call.num_inference_steps - 1);

      it(`is the same in one graph and step by step: ${name}`, async () => {
        for (const Class of [DDPMScheduler, DDIMScheduler]) {
          const scheduler = new Class({ ...schedulerOptions, prediction_type });
          const scaled = await draw({ scheduler, noise_scale });
          expect(scaled).toEqual(await draw({ scheduler, noise_scale, ...stepwise }));
          expect(scaled).not.toEqual(await draw({ scheduler }));
        }
      });

      it(`is what scaling epsilon in a scheduler gives: ${name}`, async () => {
        const scheduler = new DDPMScheduler({ ...schedulerOptions, prediction_type });
        const expected = await draw({ scheduler: scaling(scheduler, scaleAt) });
        // Float32 in another order over 20 steps.
        expect(relativeDistance(await draw({ scheduler, noise_scale }), expected)).toBeLessThan(1e-4);
        expect(relativeDistance(await draw({ scheduler }), expected)).toBeGreaterThan(1e-3);
      });
    }

  it('is that of the minimiser for iso_lambda', async () => {
    const scale = minimiserScale(0.1, 0.84);
    expect(await draw({ iso_lambda: 0.1, isotropy: 0.84 })).toEqual(await draw({ noise_scale: scale }));
    expect(await drawImages({ iso_lambda: 0.1, isotropy: 0.84 })).toEqual(await drawImages({ noise_scale: scale }));
    expect(await drawImages({ noise_scale: scale })).not.toEqual(await drawImages());
  });

  it('leaves a learned variance alone', async () => {
    const learned = path.join(parent, 'learned');
    await saveUNet(learned, { out_channels: 2 }, { variance_type: 'learned_range' });
    const generate = await pipeline('unconditional-image-generation', learned, { device: 'cpu' });
    const scheduler = generate.scheduler.clone();
    const step = scheduler.step.bind(scheduler);
    const size = 64;
    const scaling = Object.assign(scheduler, {
      clone: () => scheduler,
      step: (output: Float32Array, timestep: number, x: Float32Array, options: StepOptions) =>
        step(
          output.map((y, i) => (i % (2 * size) < size ? Math.fround(1.1) * y : y)),
          timestep,
          x,
          options,
        ),
    });
    const options = { ...call, output_type: 'uint8' as const };
    expect(await generate({ ...options, noise_scale: 1.1 })).toEqual(
      await generate({ ...options, scheduler: scaling }),
    );
    await generate.dispose();
  });

  it('stays finite at zero terminal SNR, where a velocity says nothing of the noise', async () => {
    const scheduler = new DDIMScheduler({
      ...schedulerOptions,
      prediction_type: 'v_prediction',
      rescale_betas_zero_snr: true,
      timestep_spacing: 'trailing',
    });
    const scaled = await draw({ scheduler, noise_scale: 1.05 });
    expect(scaled.every(Number.isFinite)).toBe(true);
    expect(scaled).toEqual(await draw({ scheduler, noise_scale: 1.05, ...stepwise }));
  });
});

describe('the isotropy of the folder', () => {
  const save = async (name: string, content: object) => {
    const copy = await savePipeline(parent, name);
    await writeFile(path.join(copy, 'unet', 'isotropy.json'), JSON.stringify(content));
    return copy;
  };

  it('is what iso_lambda uses, and the option comes before it', async () => {
    const content = { isotropy: 0.84, standard_error: 0.001, samples: 100, lambda: 0 };
    const generate = await pipeline('unconditional-point-generation', await save('measured', content));
    expect(generate.isotropy).toEqual(ddpm);
    const own = await generate({ ...call, iso_lambda: 0.2 });
    expect(own).toEqual(await points({ ...call, iso_lambda: 0.2, isotropy: ddpm }));
    expect(own).not.toEqual(await generate({ ...call, iso_lambda: 0.2, isotropy: 0.9 }));
    await generate.dispose();
  });

  it('is not used where the loss of the training is not known', async () => {
    const content = { isotropy: 0.84, standard_error: 0.001, samples: 100, lambda: null };
    const generate = await pipeline('unconditional-point-generation', await save('unknown-loss', content));
    await expect(generate({ iso_lambda: 0.1 })).rejects.toThrow(/needs the isotropy/);
    await generate.dispose();
  });

  it('is refused when it is damaged', async () => {
    const damaged = await save('damaged', { isotropy: 'high' });
    await expect(pipeline('unconditional-point-generation', damaged)).rejects.toThrow(ConfigError);
  });
});

describe('wrong options', () => {
  it.each([
    { iso_lambda: 0.1 },
    { iso_lambda: -0.1, isotropy: 0.84 },
    { iso_lambda: Number.NaN, isotropy: 0.84 },
    { iso_lambda: 0.1, isotropy: 0 },
    { iso_lambda: 0.1, isotropy: 1.6 },
    { iso_lambda: 0.1, isotropy: { isotropy: 0.3, lambda: 1 } },
    { iso_lambda: 0.1, isotropy: 0.84, noise_scale: 1.1 },
    { noise_scale: 0 },
    { noise_scale: -1 },
    { noise_scale: Number.POSITIVE_INFINITY },
    { noise_scale: '1.1' },
    { noise_scale: [1.1] },
    { noise_scale: [1, 2, 3] },
  ])('%j are refused before anything is drawn', async (options) => {
    await expect(draw(options)).rejects.toThrow(InvalidArgumentError);
    await expect(drawImages(options)).rejects.toThrow(InvalidArgumentError);
  });

  it('are not mixed in one folder of images', async () => {
    const target = path.join(parent, 'drawn');
    await mkdir(target);
    await images.toFolder(target, { count: 2, num_inference_steps: 3, noise_scale: 1.1 });
    expect(JSON.parse(await readFile(path.join(target, 'generation.json'), 'utf8')).noise_scale).toEqual([1.1, 1.1]);
    await expect(images.toFolder(target, { count: 3, num_inference_steps: 3 })).rejects.toThrow(/noise_scale/);
  });
});
