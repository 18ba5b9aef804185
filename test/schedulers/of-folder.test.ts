import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { parseStrictJson } from '../../src/files/json.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { schedulerOfFolder, schedulers } from '../../src/schedulers/registry.ts';

type Config = Record<string, unknown> & { _class_name: string };
interface Saved {
  /** The text that diffusers saves, with -Infinity where it has that. */
  readonly config: string;
  readonly alphas_cumprod?: Record<string, number>;
}

/** By diffusers 0.32 in torch 1.13: `to_json_string()` and a few of `alphas_cumprod`. */
const saved: Record<string, Saved> = JSON.parse(
  readFileSync(new URL('../fixtures/hub/schedulers/of-diffusers-0.32.json', import.meta.url), 'utf8'),
);
const configOf = (name: string) => parseStrictJson(Buffer.from(saved[name]?.config ?? ''), true) as Config;
const withoutBetas = [
  'ScoreSdeVeScheduler',
  'FlowMatchEulerDiscreteScheduler',
  'EDMEulerScheduler',
  'CMStochasticIterativeScheduler',
  'IPNDMScheduler',
];

let warn: MockInstance<typeof process.emitWarning>;
beforeEach(() => {
  warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
});
afterEach(() => {
  warn.mockRestore();
});
const warnings = () => warn.mock.calls.map(([text]) => String(text));

const withBetas = Object.keys(saved).filter((name) => !withoutBetas.includes(name));

describe('a folder with a scheduler of diffusers', () => {
  it.each(withBetas.filter((name) => schedulers.find(name)))('%s opens as itself, without a word', (name) => {
    const scheduler = schedulerOfFolder(configOf(name));
    expect(scheduler.className).toBe(name);
    for (const [t, value] of Object.entries(saved[name]?.alphas_cumprod ?? {}))
      expect(Math.abs((scheduler.alphasCumprod[Number(t)] ?? Number.NaN) / value - 1)).toBeLessThan(1e-5);
    expect(warnings()).toEqual([]);
  });
});

describe('a folder with a scheduler that is not here', () => {
  it.each(withBetas.filter((name) => !schedulers.find(name)))('%s: its betas, and one warning', (name) => {
    const config = configOf(name);
    for (let i = 0; i < 2; i++) {
      const scheduler = schedulerOfFolder(config);
      expect(scheduler).toBeInstanceOf(name.startsWith('DDPM') ? DDPMScheduler : DDIMScheduler);
      // float32 in both; a cumulative product of up to 1000 factors.
      for (const [t, value] of Object.entries(saved[name]?.alphas_cumprod ?? {}))
        expect(Math.abs((scheduler.alphasCumprod[Number(t)] ?? Number.NaN) / value - 1)).toBeLessThan(1e-5);
      expect(scheduler.config.prediction_type).toBe(config.prediction_type);
      expect(scheduler.config.timestep_spacing).toBe(config.timestep_spacing);
      expect(scheduler.config).toHaveProperty('clip_sample', config.clip_sample ?? false);
    }
    expect(warnings()).toHaveLength(1);
    expect(warnings()[0]).toMatch(
      new RegExp(`is a ${name}, which is not registered: DD[IP]MScheduler takes its place`),
    );
  });

  it.each(withoutBetas)('%s: refused by name, because it has no betas', (name) => {
    expect(() => schedulerOfFolder(configOf(name))).toThrow(ConfigError);
    expect(() => schedulerOfFolder(configOf(name))).toThrow(new RegExp(`"${name}" has no betas.*option scheduler`));
    expect(() => DDPMScheduler.fromConfig(configOf(name))).toThrow(ConfigError);
  });

  it.each([
    ['use_flow_sigmas', true],
    ['snr_shift_scale', 3],
    ['timestep_type', 'continuous'],
    ['prediction_type', 'flow_prediction'],
    ['beta_schedule', 'laplace'],
  ])('refuses %s = %s by name', (key, value) => {
    const config = { ...configOf('EulerDiscreteScheduler'), [key]: value };
    expect(() => schedulerOfFolder(config)).toThrow(ConfigError);
    expect(() => schedulerOfFolder(config)).toThrow(key);
    expect(() => schedulerOfFolder({ ...config, _class_name: 'DDPMScheduler' })).toThrow(key);
  });

  it('makes way for the option scheduler, without a word', () => {
    const config = configOf('PNDMScheduler');
    const byName = schedulerOfFolder(config, 'DDPMScheduler');
    expect(byName).toBeInstanceOf(DDPMScheduler);
    expect(byName.config).toMatchObject({ beta_start: 0.00085, beta_schedule: 'scaled_linear' });
    const own = new DDPMScheduler({ beta_end: 0.5 });
    expect(schedulerOfFolder(configOf('ScoreSdeVeScheduler'), own)).toBe(own);
    expect(schedulerOfFolder(config, { _class_name: 'DDIMScheduler', beta_end: 0.3 }).config.beta_end).toBe(0.3);
    expect(() => schedulerOfFolder(config, 'DDIMSheduler')).toThrow(/Did you mean 'DDIMScheduler'/);
    expect(() => schedulerOfFolder(config, 5 as unknown as string)).toThrow(InvalidArgumentError);
    expect(warnings()).toEqual([]);
  });
});

describe('keys that a scheduler does not have', () => {
  it('are taken without a word where another scheduler of diffusers has them, or where they ask for nothing', () => {
    const { _class_name, ...others } = configOf('DPMSolverMultistepScheduler');
    const scheduler = schedulerOfFolder({ ...others, new_key: null, new_flag: false, _class_name: 'DDPMScheduler' });
    expect(scheduler.config).toMatchObject({ variance_type: 'fixed_small', beta_schedule: 'squaredcos_cap_v2' });
    expect(warnings()).toEqual([]);
  });

  it('are named in one warning where no scheduler has them', () => {
    for (let i = 0; i < 2; i++)
      schedulerOfFolder({ _class_name: 'DDIMScheduler', solver_order: 3, temperature: 0.7, style: 'b' });
    expect(warnings()).toEqual([
      'the config of the DDIMScheduler has keys that are not known here and have no effect: temperature (0.7), style ("b")',
    ]);
  });
});
