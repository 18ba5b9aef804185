import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../src/errors.ts';
import { nearestName, Registry } from '../src/registry.ts';

describe('Registry', () => {
  const schedulers = () => new Registry<string>('scheduler', { DDPMScheduler: 'ddpm' });

  it('finds what was registered, by name', () => {
    const registry = schedulers();
    registry.register('EulerScheduler', 'euler');
    expect(registry.names()).toEqual(['DDPMScheduler', 'EulerScheduler']);
    expect(registry.get('EulerScheduler')).toBe('euler');
    expect(registry.find('Heun')).toBeUndefined();
    expect(registry.find(7)).toBeUndefined();
  });

  it('refuses an unknown name with the nearest one, by the class of the caller', () => {
    expect(() => schedulers().get('ddpmscheduler')).toThrow(InvalidArgumentError);
    expect(() => schedulers().get('DDPMSchedular', ConfigError)).toThrow(ConfigError);
    expect(() => schedulers().get('DDPMSchedular')).toThrow(/Did you mean 'DDPMScheduler'\?/);
    expect(() => schedulers().get(undefined)).toThrow(/scheduler missing is not known: use DDPMScheduler/);
    expect(() => schedulers().get('__proto__')).toThrow(InvalidArgumentError);
  });

  it('keeps a name for the thing that has it', () => {
    const registry = schedulers();
    registry.register('DDPMScheduler', 'ddpm');
    expect(() => registry.register('DDPMScheduler', 'another')).toThrow(InvalidArgumentError);
    expect(() => registry.register(' ', 'another')).toThrow(InvalidArgumentError);
    expect(registry.get('DDPMScheduler')).toBe('ddpm');
  });
});

it('nearestName measures without regard to case, and finds nothing where nothing is near', () => {
  expect(nearestName('LEARNING_RATES', ['learning_rate', 'lambda'])).toBe('learning_rate');
  expect(nearestName('zzzzzzzzzz', ['learning_rate', 'lambda'])).toBeUndefined();
});
