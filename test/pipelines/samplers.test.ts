import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import type {
  ImageGenerationOptions,
  UnconditionalImageGenerationPipeline,
} from '../../src/pipelines/image-pipeline.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import type { Scheduler } from '../../src/schedulers/index.ts';
import { asScheduler, schedulerNames } from '../../src/schedulers/registry.ts';
import { temporaryFolder } from './saved-pipeline.ts';
import { saveUNet } from './saved-unet.ts';

let generate: UnconditionalImageGenerationPipeline;
beforeAll(async () => {
  const folder = path.join(await temporaryFolder(), 'pipeline');
  await saveUNet(folder);
  generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  return () => generate.dispose();
});

/** PNDM takes no fewer steps. */
const STEPS = 4;

describe.each(schedulerNames())('%s', (name) => {
  // One object for all calls: a call that kept its history in it would disturb the others.
  let scheduler: Scheduler;
  beforeAll(() => {
    scheduler = asScheduler(name, generate.scheduler);
  });
  const draw = async (seed: number, more: Partial<ImageGenerationOptions> = {}) => {
    const options = { scheduler, num_inference_steps: STEPS, batch_size: 2, ...more, seed };
    return [...(await generate({ ...options, output_type: 'tensor' })).data];
  };

  it('draws in calls at once what it draws in turn, and an aborted call leaves nothing behind', async () => {
    const inTurn = [await draw(1), await draw(2)];
    const abort = new AbortController();
    const on_progress = (done: number) => done > 0.4 && abort.abort(new Error('enough'));
    const stopped = expect(draw(3, { signal: abort.signal, on_progress })).rejects.toThrow('enough');
    const atOnce = await Promise.all([draw(1), draw(2), stopped]);
    expect(atOnce.slice(0, 2)).toEqual(inTurn);
    expect(await draw(1)).toEqual(inTurn[0]);
  });

  it('draws 32 as one by one', async () => {
    const options = { scheduler, num_inference_steps: STEPS, count: 32, seed: 5 };
    const drawn = async (batch_size: number) => {
      const bytes: number[] = [];
      for await (const { data } of generate.batches({ ...options, batch_size })) bytes.push(...data);
      return bytes;
    };
    expect(await drawn(1)).toEqual(await drawn(32));
  });

  it('refuses a number of steps that it cannot take, before the model runs', async () => {
    const predict = vi.spyOn(generate.model, 'predict');
    for (const num_inference_steps of [0, 1.5, 1001, ...(name === 'pndm' ? [3] : [])]) {
      const refused = expect.objectContaining({
        constructor: InvalidArgumentError,
        message: expect.stringContaining(`num_inference_steps is ${num_inference_steps}`),
      });
      await expect(draw(1, { num_inference_steps })).rejects.toThrow(refused);
    }
    expect(predict).not.toHaveBeenCalled();
    predict.mockRestore();
  });
});

it('wrong schedulers, options and latents are refused by name before the model runs', async () => {
  const predict = vi.spyOn(generate.model, 'predict');
  const refused = async (options: unknown, Class: typeof InvalidArgumentError | typeof ConfigError, message: string) =>
    expect(generate(options as ImageGenerationOptions)).rejects.toThrow(
      expect.objectContaining({ constructor: Class, message: expect.stringContaining(message) }),
    );
  await refused({ scheduler: 'dpm+' }, InvalidArgumentError, "'dpm+' is unknown. Did you mean 'dpm++'?");
  await refused({ scheduler: { _class_name: 'EulerScheduler' } }, ConfigError, 'EulerScheduler');
  const config = { _class_name: 'DPMSolverMultistepScheduler' };
  await refused({ scheduler: { ...config, solver_order: 4 } }, ConfigError, 'solver_order');
  await refused({ scheduler: { ...config, algorithm_type: 'dpm' } }, ConfigError, 'algorithm_type');
  await refused({ num_steps: 20 }, InvalidArgumentError, 'num_steps');
  await refused({ latents: new Float32Array(65) }, InvalidArgumentError, 'latents has the shape [65]');
  await refused({ latents: new Float32Array(64).fill(Number.NaN) }, InvalidArgumentError, 'value 0 is NaN');
  await refused({ latents: new Float32Array(64), batch_size: 2 }, InvalidArgumentError, 'must have [2, 1, 8, 8]');
  await refused({ image: 'none.png', strength: Number.NaN }, InvalidArgumentError, 'strength is NaN');
  expect(predict).not.toHaveBeenCalled();
  predict.mockRestore();
});
