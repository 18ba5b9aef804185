import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import {
  DDIMScheduler,
  DDPMScheduler,
  Scheduler,
  type SchedulerOptions,
  schedulers,
} from '../../src/schedulers/index.ts';
import { asScheduler } from '../../src/schedulers/registry.ts';
import { EulerScheduler, MultistepScheduler } from './own-schedulers.ts';

const values = Float32Array.of(0.5, -0.5);

/** The least a subclass has. */
class PlainScheduler extends Scheduler {
  readonly className = 'PlainScheduler';
  step(output: Float32Array) {
    return { prev_sample: output };
  }
}

describe('a subclass that says nothing else', () => {
  it('has the defaults of the contract', () => {
    const scheduler = new PlainScheduler({ num_train_timesteps: 20 });
    scheduler.setTimesteps(4);
    expect(scheduler.timesteps).toEqual([15, 10, 5, 0]);
    expect(scheduler.init_noise_sigma).toBe(1);
    expect(scheduler.scaleModelInput(values, 3)).toBe(values);
    expect(scheduler.needsNoise(3, 1)).toBe(false);
    expect(scheduler.stepCoefficients(3)).toBeNull();
    expect(scheduler.learnsVariance).toBe(false);
  });

  it('has the noise schedule of its options and survives JSON', () => {
    const options = { num_train_timesteps: 20, beta_end: 0.3, prediction_type: 'v_prediction' } as const;
    const scheduler = new PlainScheduler(options);
    expect(scheduler.alphasCumprod).toEqual(new DDPMScheduler(options).alphasCumprod);
    const again = PlainScheduler.fromConfig(JSON.parse(JSON.stringify(scheduler.toConfig())));
    expect(again).toBeInstanceOf(PlainScheduler);
    expect(again.toConfig()).toEqual(scheduler.toConfig());
    expect(scheduler.toConfig()).toMatchObject({ ...options, _class_name: 'PlainScheduler' });
    expect(() => PlainScheduler.fromConfig('PlainScheduler')).toThrow(ConfigError);
    expect(() => new PlainScheduler({ beta_end: 2 })).toThrow(/wrong PlainScheduler config.*beta_end/s);
  });

  it('adds noise at whole timesteps only', () => {
    const scheduler = new PlainScheduler();
    expect(() => scheduler.addNoise(values, values, [9.5], 2)).toThrow(/timestep 9.5 is not a whole number/);
    expect(() => scheduler.addNoise(values, values, [1000], 2)).toThrow(InvalidArgumentError);
  });
});

it('keeps the options of a subclass in its config', () => {
  class Karras extends Scheduler<{ rho: number }> {
    readonly className = 'Karras';
    constructor({ rho = 7, ...options }: SchedulerOptions & { rho?: number } = {}) {
      super(options, { rho });
    }
    step(output: Float32Array) {
      return { prev_sample: output };
    }
  }
  const scheduler = new Karras({ rho: 3, beta_end: 0.5 });
  expect(scheduler.config.rho).toBe(3);
  expect(scheduler.clone().toConfig()).toEqual(scheduler.toConfig());
  expect(Karras.fromConfig(scheduler.toConfig()).toConfig()).toEqual(scheduler.toConfig());
});

describe('clone', () => {
  class Nested extends PlainScheduler {
    array = [1, 2];
    typed = Float32Array.of(1, 2);
    map = new Map([['a', { list: [1] }]]);
    set = new Set([1]);
    inner = new DDIMScheduler();
    /** The same array twice, which must stay one in the copy. */
    readonly alias = this.array;
    #count = 0;
    readonly arrow = () => this.array;
    count(): number {
      this.#count++;
      return this.#count;
    }
  }

  it('shares no state, however deep', () => {
    const scheduler = new Nested({ beta_end: 0.5 });
    scheduler.array.push(3);
    scheduler.count();
    const copy = scheduler.clone();
    expect(copy).toBeInstanceOf(Nested);
    expect(copy.array).toEqual([1, 2, 3]);
    expect(copy.alias).toBe(copy.array);
    copy.array.push(4);
    copy.typed[0] = 9;
    copy.map.get('a')?.list.push(2);
    copy.set.add(2);
    copy.inner.setTimesteps(5);
    copy.setTimesteps(3);
    expect(copy.arrow()).toBe(copy.array);
    expect(copy.count()).toBe(1);
    expect(scheduler.array).toEqual([1, 2, 3]);
    expect(scheduler.typed[0]).toBe(1);
    expect(scheduler.map.get('a')?.list).toEqual([1]);
    expect(scheduler.set.size).toBe(1);
    expect(scheduler.inner.timesteps).toHaveLength(1000);
    expect(scheduler.timesteps).toHaveLength(1000);
    expect(copy.config).toEqual(scheduler.config);
    expect(copy.alphasCumprod).toEqual(scheduler.alphasCumprod);
  });

  it('copies a history', () => {
    const scheduler = new MultistepScheduler();
    scheduler.setTimesteps(4);
    const [first = 0, second = 0] = scheduler.timesteps;
    scheduler.step(values, first, values);
    const copy = scheduler.clone();
    copy.step(
      values.map((x) => 3 * x),
      second,
      values,
    );
    const expected = new MultistepScheduler();
    expected.setTimesteps(4);
    expected.step(values, first, values);
    expect(scheduler.step(values, second, values)).toEqual(expected.step(values, second, values));
  });

  it('says what to do where the constructor takes something else', () => {
    class Odd extends PlainScheduler {
      constructor(readonly sigmas: readonly number[]) {
        super({ num_train_timesteps: sigmas.map(Number).length });
      }
    }
    expect(() => new Odd([1, 2]).clone()).toThrow(/override clone/);
  });
});

describe('the registry', () => {
  schedulers.register('EulerScheduler', EulerScheduler);
  const own = new DDPMScheduler({ beta_end: 0.1, num_train_timesteps: 50, variance_type: 'fixed_large' });

  it('makes a scheduler from its name, with the noise schedule of the model', () => {
    const euler = asScheduler('EulerScheduler', own);
    expect(euler).toBeInstanceOf(EulerScheduler);
    expect(euler.alphasCumprod).toEqual(own.alphasCumprod);
    expect(euler.config).not.toHaveProperty('variance_type');
    expect(asScheduler('DDIMScheduler', own)).toBeInstanceOf(DDIMScheduler);
    expect(() => asScheduler('DDIMSheduler', own)).toThrow(/Did you mean 'DDIMScheduler'/);
  });

  it('makes one from a config, and takes an instance as it is', () => {
    expect(asScheduler({ _class_name: 'EulerScheduler', beta_end: 0.3 }, own).config.beta_end).toBe(0.3);
    expect(asScheduler(own, new DDPMScheduler())).toBe(own);
    expect(() => asScheduler({ beta_end: 0.3 }, own)).toThrow(ConfigError);
  });

  it('takes an instance of another copy of the package, and names what one of another kind lacks', () => {
    const methods = Object.getOwnPropertyNames(Scheduler.prototype);
    const foreign = Object.fromEntries([...methods, 'step'].map((name) => [name, () => undefined]));
    expect(asScheduler(foreign, own)).toBe(foreign);
    expect(() => asScheduler({ step: () => values, setTimesteps: () => undefined }, own)).toThrow(
      /no scaleModelInput, .*extend Scheduler/,
    );
  });
});
