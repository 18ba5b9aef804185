import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { adamScalars } from '../../src/graph/optimizer.ts';
import { euclideanNorm, updateOnHost } from '../../src/trainers/host-update.ts';

type Tensors = Record<'w' | 'b' | 's', number[]>;
const fixture = JSON.parse(
  readFileSync(new URL('../fixtures/optim/optimizers.json', import.meta.url), 'utf8'),
);
const flat = ({ w, b, s }: Tensors) => Float32Array.from([...w, ...b, ...s]);

describe.each(['adam', 'adamw', 'adamw_clip1'] as const)('%s on the host', (name) => {
  it("follows torch's optimizer and diffusers' EMA for ten steps", () => {
    const { settings, clip_norm, params_after, ema_after, ema_decay, grad_norm_before_clip } = fixture[name];
    const [beta1, beta2] = settings.betas;
    const adam = { beta1, beta2, epsilon: settings.eps, weight_decay: settings.weight_decay ?? 0 };
    const parameters = flat(fixture.init);
    const state = {
      parameters,
      first_moment: new Float32Array(parameters.length),
      second_moment: new Float32Array(parameters.length),
      ema: parameters.slice(),
    };
    for (const [index, gradients] of fixture.grads.entries()) {
      const gradient = flat(gradients);
      const norm = euclideanNorm(gradient);
      if (clip_norm !== null) expect(norm / grad_norm_before_clip[index]).toBeCloseTo(1, 6);
      updateOnHost(state, gradient, adam, {
        ...adamScalars(index + 1, settings.lr, adam),
        gradientScale: clip_norm === null ? 1 : Math.min(1, clip_norm / (norm + 1e-6)),
        oneMinusDecay: 1 - ema_decay[index],
      });
      // float32 rounding in another order of operations: a few units in the last place a step.
      const expectClose = (actual: Float32Array, expected: Float32Array) =>
        expected.forEach((value, i) => {
          expect(Math.abs((actual[i] as number) - value)).toBeLessThanOrEqual(3e-6 * (1 + Math.abs(value)));
        });
      expectClose(state.parameters, flat(params_after[index]));
      expectClose(state.ema, flat(ema_after[index]));
    }
  });
});

it('keeps no average where there is none', () => {
  const one = () => Float32Array.of(1);
  const state = {
    parameters: one(),
    first_moment: new Float32Array(1),
    second_moment: new Float32Array(1),
    ema: undefined,
  };
  const update = { stepSize: 0.1, epsilon: 0, keep: 1, gradientScale: 1, oneMinusDecay: 0.5 };
  updateOnHost(state, one(), { beta1: 0.9, beta2: 0.999, epsilon: 0, weight_decay: 0 }, update);
  expect(state.parameters[0]).toBeCloseTo(0.9, 6);
});
