import { describe, expect, it } from 'vitest';
import { assembleKernels } from '../../scripts/assemble-kernels.ts';
import { addTree } from '../../src/distributed/sum.ts';
import { DeviceError } from '../../src/errors.ts';
import { MOMENT_KINDS, momentKinds, optimizerScalars } from '../../src/graph/optimizer.ts';
import { adamScalars } from '../../src/graph/optimizers/adam.ts';
import { concatenated } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { HOST_KERNELS } from '../../src/trainers/engines/host-kernels-binary.ts';
import { ParameterMemory } from '../../src/trainers/engines/parameter-memory.ts';
import { decays, gradients, largestError, norms, optimizerCases, start } from '../graph/optimizer-cases.ts';

const random = (seed: number, length: number) => new RandomStream(seed).fillNormal(new Float32Array(length));

it('has the binary of its source: run `npx tsx scripts/assemble-kernels.ts` where it does not', async () => {
  expect(HOST_KERNELS).toBe(await assembleKernels('HOST_KERNELS'));
});

describe.each(optimizerCases)('$name on the host', ({ settings, learningRate, clipNorm, parameters, averages }) => {
  it.each([true, false])("follows the reference and diffusers' EMA for ten steps, with an average: %s", (ema) => {
    const state = new ParameterMemory(start.length, { moments: momentKinds(settings), ema, batches: 1 });
    state.parameters.set(start);
    state.ema?.set(start);
    for (const [index, gradient] of gradients.entries()) {
      state.gradient.set(gradient);
      const norm = Math.sqrt(state.squaredNorm());
      expect(norm / (norms[index] as number)).toBeCloseTo(1, 6);
      state.update(settings, {
        ...optimizerScalars(index + 1, learningRate, settings),
        gradientScale: clipNorm === undefined ? 1 : Math.min(1, clipNorm / (norm + 1e-6)),
        emaRate: 1 - (decays[index] as number),
      });
      // float32 rounding in another order of operations: a few units in the last place a step.
      expect(largestError(state.parameters, parameters[index] ?? [])).toBeLessThan(3e-6);
      if (state.ema) expect(largestError(state.ema, averages[index] ?? [])).toBeLessThan(3e-6);
    }
    expect(state.gradient).toEqual(gradients.at(-1));
    for (const kind of MOMENT_KINDS) expect(state[kind] !== undefined).toBe(momentKinds(settings).includes(kind));
  });
});

it('Lion leaves alone on the host what has neither gradient nor moment', () => {
  const settings = { name: 'lion' as const, beta1: 0.9, beta2: 0.99, weight_decay: 0 };
  const state = new ParameterMemory(5, { moments: momentKinds(settings), ema: false, batches: 1 });
  state.gradient.set([0, -0, 3, -1e-30, 0]);
  state.update(settings, { ...optimizerScalars(1, 0.5, settings), gradientScale: 1, emaRate: 0 });
  expect(state.parameters).toEqual(Float32Array.of(0, 0, -0.5, 0.5, 0));
});

// Around the kernels' groups of four and eight values and the padding to 16.
describe.each([1, 3, 4, 15, 16, 17, 1000])('a memory of %i parameters', (length) => {
  const adam = { name: 'adam' as const, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
  const scalars = { ...adamScalars(3, 1e-3, adam), gradientScale: 0.37, emaRate: 0.01 };

  it.each([true, false])('is updated as in float64, with an average: %s', (ema) => {
    const state = new ParameterMemory(length, { moments: MOMENT_KINDS, ema, batches: 1 });
    state.parameters.set(random(1, length));
    state.first_moment?.set(random(2, length));
    state.second_moment?.set(random(3, length).map((value) => value * value));
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
    const state = new ParameterMemory(length, { moments: MOMENT_KINDS, ema: true, batches });
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
  const state = new ParameterMemory(1, { moments: MOMENT_KINDS, ema: false, batches: 1 });
  const decayFactor = 1 - 2e-8;
  state.parameters.fill(1.9999);
  // Neither the decay, 4e-8, nor a step of 4e-8 reaches half the distance to the next float32, 6e-8; both together do.
  state.first_moment?.fill(1);
  state.second_moment?.fill(1);
  const none = { name: 'adam' as const, beta1: 1, beta2: 1, epsilon: 0, weight_decay: 0 };
  state.update(none, { decayFactor, stepSize: 4e-8, epsilon: 0, gradientScale: 0, emaRate: 0 });
  expect(state.parameters[0]).toBe(Math.fround(Math.fround(1.9999) * decayFactor - 4e-8));
  expect(state.parameters[0]).toBeLessThan(Math.fround(1.9999));
});

it('says how much memory there is not', () => {
  const create = () => new ParameterMemory(2 ** 31, { moments: MOMENT_KINDS, ema: false, batches: 1 });
  expect(create).toThrow(DeviceError);
  expect(create).toThrow('32768 MiB');
});

it('holds 214 million parameters in one memory, with an average', () => {
  const length = ParameterMemory.maxLength({ moments: MOMENT_KINDS, ema: true, batches: 1 });
  expect(length).toBeGreaterThan(214_000_000);
  expect(length % 16).toBe(0);
});
