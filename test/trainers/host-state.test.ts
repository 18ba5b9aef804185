import { describe, expect, it } from 'vitest';
import { GraphError } from '../../src/errors.ts';
import { MOMENT_KINDS } from '../../src/graph/optimizer.ts';
import { adamScalars } from '../../src/graph/optimizers/adam.ts';
import { elementCount } from '../../src/graph/types.ts';
import { hwnc } from '../../src/nn/hwnc.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { HostState } from '../../src/trainers/engines/host-state.ts';
import type { StateKind } from '../../src/trainers/step/update.ts';

const specs = [
  { name: 'conv.weight', shape: [4, 3, 3, 3], isFilter: true },
  { name: 'conv.bias', shape: [4] },
  { name: 'linear.weight', shape: [5, 7] },
  { name: 'out.weight', shape: [2, 4, 3, 3], isFilter: true },
].map((spec) => ({ ...spec, init: () => undefined }));
const length = specs.reduce((sum, { shape }) => sum + elementCount(shape), 0);
const random = (seed: number) => new RandomStream(seed).fillNormal(new Float32Array(length));
const initial = new Map<StateKind, Float32Array>([
  ['parameters', random(1)],
  ['first_moment', random(2)],
  ['second_moment', random(3).map((value) => value * value)],
  ['ema', random(4)],
]);
const adam = { name: 'adam' as const, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

function step(state: HostState): number {
  for (let batch = 0; batch < 2; batch++) {
    state.parameters().forEach(({ gradient }, i) => {
      new RandomStream(10 * batch + i).fillNormal(gradient);
    });
    state.addGradient(batch);
  }
  const norm = state.gradientNorm();
  state.update(adam, { ...adamScalars(1, 1e-3, adam), gradientScale: 0.5, emaRate: 0.1 });
  return norm;
}

describe('the state on the host', () => {
  const kinds = { moments: MOMENT_KINDS, ema: true, batches: 2 };

  it('gives back what it was given, and does not change it', () => {
    const given = structuredClone(initial);
    const state = new HostState(specs, hwnc, kinds, given);
    expect(state.copy()).toEqual(initial);
    step(state);
    expect(given).toEqual(initial);
  });

  it('shows what it would copy, in place, and has it back as it was, also from a reader that fails', async () => {
    const state = new HostState(specs, hwnc, kinds, initial);
    const held = structuredClone(state.parameters().map(({ value }) => value));
    await state.withState(async (shown) => {
      expect(shown).toEqual(initial);
      expect(shown.get('ema')?.buffer).toBe(state.parameters()[0]?.value.buffer);
    });
    expect(state.parameters().map(({ value }) => value)).toEqual(held);
    await expect(state.withState(() => Promise.reject(new Error('disk full')))).rejects.toThrow('disk full');
    expect(state.parameters().map(({ value }) => value)).toEqual(held);
    expect(state.copy()).toEqual(initial);
  });

  it('shows itself to several at a time, and copies meanwhile, always in the order of the state dict', async () => {
    const state = new HostState(specs, hwnc, kinds, initial);
    const held = structuredClone(state.parameters().map(({ value }) => value));
    const reader = () => {
      let end = () => {};
      const ended = new Promise<void>((resolve) => {
        end = resolve;
      });
      const done = state.withState(async (shown) => {
        expect(shown).toEqual(initial);
        await ended;
        expect(shown).toEqual(initial);
      });
      return { end: () => end(), done };
    };
    const readers = [reader(), reader()];
    for (const { end, done } of readers) {
      expect(state.copy()).toEqual(initial);
      end();
      await done;
    }
    expect(state.copy()).toEqual(initial);
    expect(state.parameters().map(({ value }) => value)).toEqual(held);
  });

  it('shows a copy where it is several memories', async () => {
    const state = new HostState(specs, hwnc, kinds, initial, 120);
    await state.withState(async (shown) => expect(shown).toEqual(initial));
  });

  it('holds filters in the order of the layout', () => {
    const [filter] = new HostState(specs, hwnc, kinds, initial).parameters();
    const [out, input, height, width] = [1, 2, 0, 1];
    const shape = [4, 3, 3, 3];
    const at = (indices: number[], sizes: number[]) =>
      indices.reduce((offset, index, axis) => offset * (sizes[axis] as number) + index, 0);
    const indices = [out, input, height, width];
    const moved = hwnc.filterAxes;
    expect(
      filter?.value[
        at(
          moved.map((axis) => indices[axis] as number),
          moved.map((axis) => shape[axis] as number),
        )
      ],
    ).toBe(initial.get('parameters')?.[at(indices, shape)]);
  });

  it('is the same in one memory and in several', () => {
    const whole = new HostState(specs, hwnc, kinds, initial);
    const parts = new HostState(specs, hwnc, kinds, initial, 112);
    // The order of summation differs, by some 1e-16 an addition.
    expect(step(parts) / step(whole)).toBeCloseTo(1, 13);
    expect(parts.copy()).toEqual(whole.copy());
    expect(whole.copy()).not.toEqual(initial);
  });

  it('starts at zero where nothing is given, and keeps no average unless asked', () => {
    const state = new HostState(specs, hwnc, { moments: MOMENT_KINDS, ema: false, batches: 1 }, new Map());
    expect([...state.copy().keys()]).toEqual(['parameters', 'first_moment', 'second_moment']);
    expect(state.copy().get('parameters')).toEqual(new Float32Array(length));
  });

  it('refuses a parameter larger than a memory', () => {
    expect(() => new HostState(specs, hwnc, kinds, initial, 64)).toThrow(GraphError);
  });
});
