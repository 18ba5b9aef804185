import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it, type MockInstance, vi } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/files/safetensors.ts';
import { UNet2DModel } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';

const fixtures = fileURLToPath(new URL('../fixtures/', import.meta.url));
const schedulers: Record<string, { config: string }> = JSON.parse(
  await readFile(`${fixtures}hub/schedulers/of-diffusers-0.32.json`, 'utf8'),
);

let folder: string;
let warn: MockInstance<typeof process.emitWarning>;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusers-'));
  warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
});
afterEach(async () => {
  warn.mockRestore();
  await rm(folder, { recursive: true, force: true });
});

/** A pipeline of diffusers 0.35 whose U-Net is an average of EMAModel, without a middle block, with the given scheduler. */
async function pipelineOf(scheduler: string, config = schedulers[scheduler]?.config ?? ''): Promise<string> {
  await cp(`${fixtures}unet/no-mid-block`, path.join(folder, 'unet'), { recursive: true });
  await mkdir(path.join(folder, 'scheduler'));
  await writeFile(path.join(folder, 'scheduler/scheduler_config.json'), config);
  const index = { scheduler: ['diffusers', scheduler], unet: ['diffusers', 'UNet2DModel'] };
  await writeFile(path.join(folder, 'model_index.json'), JSON.stringify({ _class_name: 'DDPMPipeline', ...index }));
  return folder;
}

it('an averaged U-Net without a middle block, with DPMSolverMultistepScheduler, opens and draws', async () => {
  const generate = await pipeline('unconditional-image-generation', await pipelineOf('DPMSolverMultistepScheduler'), {
    device: 'cpu',
  });
  const given = await readSafetensors(`${fixtures}unet/no-mid-block/case.safetensors`);
  const values = (name: string) => given.get(name)?.data as Float32Array;
  const output = await generate.model.predict(values('sample'), Array.from(given.get('timestep')?.data ?? [], Number));
  // By diffusers in torch, float32; outputs of a few units.
  values('output').forEach((value, i) => {
    expect(Math.abs((output[i] as number) - value)).toBeLessThan(2e-5);
  });
  // Its file has "lambda_min_clipped": -Infinity.
  expect(generate.scheduler.className).toBe('DPMSolverMultistepScheduler');
  expect(generate.scheduler.config).toMatchObject({ num_train_timesteps: 500, beta_schedule: 'squaredcos_cap_v2' });
  const { data } = await generate({ num_inference_steps: 5, output_type: 'uint8' });
  expect(data).toHaveLength(192);
  await generate.dispose();
  expect(warn).not.toHaveBeenCalled();
});

it('a scheduler that is not here makes way for DDIM with its betas, and one warning', async () => {
  for (let i = 0; i < 2; i++) {
    const folderOfLcm = i === 0 ? await pipelineOf('LCMScheduler') : folder;
    const generate = await pipeline('unconditional-image-generation', folderOfLcm, { device: 'cpu' });
    expect(generate.scheduler).toBeInstanceOf(DDIMScheduler);
    expect(generate.scheduler.config).toMatchObject({ beta_start: 0.00085, beta_end: 0.012, clip_sample: false });
    await generate.dispose();
  }
  expect(warn.mock.calls.map(([text]) => String(text))).toEqual([
    expect.stringMatching(/is a LCMScheduler, .*DDIMScheduler takes its place.*scaled_linear, 0.00085 to 0.012, 1000/),
  ]);
});

it('the option scheduler wins, also where the folder has one without betas', async () => {
  const folderOfSde = await pipelineOf('ScoreSdeVeScheduler');
  const open = (options = {}) => pipeline('unconditional-image-generation', folderOfSde, { device: 'cpu', ...options });
  await expect(open()).rejects.toThrow(ConfigError);
  const own = new DDPMScheduler({ num_train_timesteps: 20 });
  const generate = await open({ scheduler: own });
  expect(generate.scheduler).toBe(own);
  await generate.dispose();
  expect(warn).not.toHaveBeenCalled();
});

it('is trained on with the betas of its scheduler', async () => {
  const model = await UNet2DModel.from_pretrained(await pipelineOf('PNDMScheduler'));
  expect(model.config.time_embedding_dim).toBe(24);
  const scheduler = await DDPMScheduler.from_pretrained(folder);
  expect(scheduler.config).toMatchObject({ beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' });
  expect(warn).not.toHaveBeenCalled();
});

it('a key of the scheduler that nobody knows gets one warning', async () => {
  const config = JSON.parse(schedulers.EulerDiscreteScheduler?.config ?? '');
  const text = JSON.stringify({ ...config, _class_name: 'DDPMScheduler', churn: 0.5, later_option: null });
  await DDPMScheduler.from_pretrained(await pipelineOf('DDPMScheduler', text));
  const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  await generate.dispose();
  expect(warn.mock.calls.map(([message]) => String(message))).toEqual([
    'the config of the DDPMScheduler has keys that are not known here and have no effect: churn (0.5)',
  ]);
});
