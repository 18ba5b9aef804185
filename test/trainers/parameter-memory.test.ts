import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { assembleKernels } from '../../scripts/assemble-kernels.ts';
import { addTree } from '../../src/distributed/sum.ts';
import { DeviceError } from '../../src/errors.ts';
import { adamScalars } from '../../src/graph/optimizer.ts';
import { concatenated } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { HOST_KERNELS } from '../../src/trainers/engines/host-kernels-binary.ts';
import { ParameterMemory } from '../../src/trainers/engines/parameter-memory.ts';

type Tensors = Record<'w' | 'b' | 's', number[]>;
const fixture = JSON.parse(readFileSync(new URL('../fixtures/optim/optimizers.json', import.meta.url), 'utf8'));
const flat = ({ w, b, s }: Tensors) => Float32Array.from([...w, ...b, ...s]);
const random = (seed: number, length: number) => new RandomStream(seed).fillNormal(new Float32Array(length));

it('has the binary of its source: run `npx tsx scripts/assemble-kernels.ts` where it does not', async () => {
  expect(HOST_KERNELS).toBe(await assembleKernels());
});

describe.each(['adam', 'adamw', 'adamw_clip1'] as const)('%s on the host', (name) => {
  it("follows torch's optimizer and diffusers' EMA for ten steps", () => {
    const { settings, clip_norm, params_after, ema_after, ema_decay, grad_norm_before_clip } = fixture[name];
    const [beta1, beta2] = settings.betas;
    const adam = { beta1, beta2, epsilon: settings.eps, weight_decay: settings.weight_decay ?? 0 };
    const init = flat(fixture.init);
    const state = new ParameterMemory(init.length, { ema: true, batches: 1 });
    state.parameters.set(init);
    state.ema?.set(init);
    for (const [index, gradients] of fixture.grads.entries()) {
      state.gradient.set(flat(gradients));
      const norm = Math.sqrt(state.squaredNorm());
      if (clip_norm !== null) expect(norm / grad_norm_before_clip[index]).toBeCloseTo(1, 6);
      state.update(adam, {
        ...adamScalars(index + 1, settings.lr, adam),
        gradientScale: clip_norm === null ? 1 : Math.min(1, clip_norm / (norm + 1e-6)),
        emaRate: 1 - ema_decay[index],
      });
      // float32 rounding in another order of operations: a few units in the last place a step.
      const expectClose = (actual: Float32Array | undefined, expected: Float32Array) =>
        expected.forEach((value, i) => {
          expect(Math.abs((actual?.[i] as number) - value)).toBeLessThanOrEqual(3e-6 * (1 + Math.abs(value)));
        });
      expectClose(state.parameters, flat(params_after[index]));
      expectClose(state.ema, flat(ema_after[index]));
    }
  });
});

// Around the kernels' groups of four and eight values and the padding to 16.
describe.each([1, 3, 4, 15, 16, 17, 1000])('a memory of %i parameters', (length) => {
  const adam = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
  const scalars = { ...adamScalars(3, 1e-3, adam), gradientScale: 0.37, emaRate: 0.01 };

  it.each([true, false])('is updated as in float64, with an average: %s', (ema) => {
    const state = new ParameterMemory(length, { ema, batches: 1 });
    state.parameters.set(random(1, length));
    state.first_moment.set(random(2, length));
    state.second_moment.set(random(3, length).map((value) => value * value));
    state.ema?.set(random(4, length));
    state.gradient.set(random(5, length));
    const { parameters, first_moment, second_moment, gradient } = state;
    const before = structuredClone({ parameters, first_moment, second_moment, gradient, ema: state.ema });
    state.update(adam, scalars);
    const at = (vector: Float32Array | undefined, i: number) => vector?.[i] as number;
    for (let i = 0; i < length; i++) {
      const g = at(before.gradient, i) * scalars.gradientScale;
      const m = at(before.first_moment, i) * adam.beta1 + g;
      const v = at(before.second_moment, i) * adam.beta2 + g * g;
      const direction = m / (Math.sqrt(v) + scalars.epsilon);
      const p = at(before.parameters, i) * scalars.decayFactor - scalars.stepSize * direction;
      // At most four roundings of 6e-8, of values of order 1; the difference to the average is of order 0.01.
      expect(at(state.first_moment, i)).toBeCloseTo(m, 6);
      expect(at(state.second_moment, i)).toBeCloseTo(v, 5);
      expect(at(state.parameters, i)).toBeCloseTo(p, 6);
      if (ema) expect(at(state.ema, i)).toBeCloseTo(at(before.ema, i) * 0.99 + p * 0.01, 6);
    }
    expect(state.gradient).toEqual(before.gradient);
    if (!ema) expect(state.ema).toBeUndefined();
  });

  it.each([1, 2, 3, 4, 5, 8, 11])('adds up the gradients of %i batches as a tree, and has their norm', (batches) => {
    const state = new ParameterMemory(length, { ema: true, batches });
    const gradients = Array.from({ length: batches }, (_, i) => random(6 + i, length));
    // A step that broke off leaves nothing behind.
    state.gradient.fill(9);
    state.addGradient(0);
    gradients.forEach((gradient, batch) => {
      state.gradient.set(gradient);
      state.addGradient(batch);
    });
    const parts = concatenated(gradients);
    addTree(parts, length, batches);
    const sum = parts.subarray(0, length);
    expect(state.total).toEqual(sum);
    const squares = sum.reduce((total, value) => total + value * value, 0);
    expect(state.squaredNorm() / squares).toBeCloseTo(1, 13);
    // beta1 = 0 leaves the gradient itself as the first moment.
    state.update({ ...adam, beta1: 0 }, { ...scalars, gradientScale: 1 });
    expect(state.first_moment).toEqual(sum);
  });
});

it('keeps the digits of a weight decay that float32 has not beside 1', () => {
  const state = new ParameterMemory(1, { ema: false, batches: 1 });
  const decayFactor = 1 - 2e-8;
  state.parameters.fill(1.9999);
  // Neither the decay, 4e-8, nor a step of 4e-8 reaches half the distance to the next float32, 6e-8; both together do.
  state.first_moment.fill(1);
  state.second_moment.fill(1);
  const none = { beta1: 1, beta2: 1, epsilon: 0, weight_decay: 0 };
  state.update(none, { decayFactor, stepSize: 4e-8, epsilon: 0, gradientScale: 0, emaRate: 0 });
  expect(state.parameters[0]).toBe(Math.fround(Math.fround(1.9999) * decayFactor - 4e-8));
  expect(state.parameters[0]).toBeLessThan(Math.fround(1.9999));
});

it('says how much memory there is not', () => {
  const create = () => new ParameterMemory(2 ** 31, { ema: false, batches: 1 });
  expect(create).toThrow(DeviceError);
  expect(create).toThrow('32768 MiB');
});

it('holds 214 million parameters in one memory, with an average', () => {
  const length = ParameterMemory.maxLength({ ema: true, batches: 1 });
  expect(length).toBeGreaterThan(214_000_000);
  expect(length % 16).toBe(0);
});
