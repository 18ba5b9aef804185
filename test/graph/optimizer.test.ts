import { describe, expect, it } from 'vitest';
import { flatten, planFlatVectors, unflatten, withGaps, withoutGaps } from '../../src/graph/flat-vectors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import {
  clipByGlobalNorm,
  emaStep,
  globalNorm,
  momentKinds,
  type OptimizerSettings,
  optimizerScalars,
  optimizerStep,
} from '../../src/graph/optimizer.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session } from '../../src/runtime/session.ts';
import { decays, gradients, largestError, norms, optimizerCases, specs, start } from './optimizer-cases.ts';

/** One optimizer step over a flat vector that is cut into tensors and put together again on the way. */
function optimizerGraph(settings: OptimizerSettings, clipNorm: number | undefined) {
  const [flatVector] = planFlatVectors(specs);
  if (!flatVector) throw new Error('no vector');
  const graph = new Graph('optimizer');
  const vector = (name: string) => graph.input(name, 'float32', [flatVector.length]);
  const scalar = (name: string) => graph.input(name, 'float32', []);
  const gradient = flatten(unflatten(vector('gradient'), flatVector), flatVector);
  const norm = globalNorm([gradient]);
  const [used = gradient] = clipNorm === undefined ? [gradient] : clipByGlobalNorm([gradient], norm, clipNorm);
  const state = { parameters: vector('parameters'), moments: momentKinds(settings).map(vector) };
  const scalars = { stepSize: scalar('stepSize'), epsilon: scalar('epsilon'), decayFactor: scalar('decayFactor') };
  const next = optimizerStep(state, used, scalars, settings);
  graph.output('parameters_next', next.parameters);
  next.moments.forEach((moment, i) => {
    graph.output(`${momentKinds(settings)[i]}_next`, moment);
  });
  graph.output('ema_next', emaStep(vector('ema'), next.parameters, scalar('one_minus_decay')));
  graph.output('norm', norm);
  return graph;
}

describe.each(optimizerCases)('$name', ({ settings, learningRate, clipNorm, parameters, averages }) => {
  it("follows the reference and diffusers' EMA for ten steps", async () => {
    const graph = optimizerGraph(settings, clipNorm);
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const vector = (data: Float32Array) => hostTensor('float32', [start.length], data);
    const scalar = (value: number) => hostTensor('float32', [], Float32Array.of(value));
    const kinds = ['parameters', ...momentKinds(settings), 'ema'];
    let state = Object.fromEntries(
      kinds.map((kind) => [kind, vector(/moment/.test(kind) ? new Float32Array(start.length) : start)]),
    );
    for (const [index, gradient] of gradients.entries()) {
      const scalars = {
        ...optimizerScalars(index + 1, learningRate, settings),
        one_minus_decay: 1 - (decays[index] as number),
      };
      const feeds: Record<string, RuntimeTensor> = {
        ...state,
        gradient: vector(gradient),
        ...Object.fromEntries(Object.entries(scalars).map(([name, value]) => [name, scalar(value)])),
      };
      const outputs = await session.run(
        Object.fromEntries(graph.inputs.flatMap(({ name }) => (feeds[name] ? [[name, feeds[name]]] : []))),
      );
      const take = (output: string) => float32Data(outputs[output], output);
      // float32 rounding in another order of operations: a few units in the last place a step.
      expect(largestError(take('parameters_next'), parameters[index] ?? [])).toBeLessThan(3e-6);
      expect(largestError(take('ema_next'), averages[index] ?? [])).toBeLessThan(3e-6);
      if (clipNorm !== undefined) expect((take('norm')[0] as number) / (norms[index] as number)).toBeCloseTo(1, 5);
      state = Object.fromEntries(kinds.map((kind) => [kind, vector(take(`${kind}_next`))]));
    }
    await session.release();
  });
});

it('Lion leaves alone what has neither gradient nor moment', async () => {
  const graph = new Graph('lion');
  const vector = (name: string) => graph.input(name, 'float32', [4]);
  const scalar = (value: number) => graph.constant('float32', [], Float32Array.of(value));
  const scalars = { stepSize: scalar(0.5), epsilon: scalar(0), decayFactor: scalar(1) };
  const settings = { name: 'lion' as const, beta1: 0.9, beta2: 0.99, weight_decay: 0 };
  const state = { parameters: vector('parameters'), moments: [vector('moment')] };
  graph.output('next', optimizerStep(state, vector('gradient'), scalars, settings).parameters);
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const feed = (data: number[]) => hostTensor('float32', [4], Float32Array.from(data));
  const zeros = feed([0, 0, 0, 0]);
  const { next } = await session.run({ parameters: zeros, moment: zeros, gradient: feed([0, 3, -1e-30, 0]) });
  expect(float32Data(next, 'next')).toEqual(Float32Array.of(0, -0.5, 0.5, 0));
  await session.release();
});

describe('flat vectors', () => {
  const tensors = [3, 4, 5].map((length, i) => ({ name: `t${i}`, shape: [length] }));

  it('split where one buffer would be too long', () => {
    expect(planFlatVectors(tensors, { maxElements: 8 }).map(({ length }) => length)).toEqual([7, 5]);
    expect(planFlatVectors(tensors)).toHaveLength(1);
    expect(() => planFlatVectors(tensors, { maxElements: 4 })).toThrow(/'t2' has 5 elements/);
  });

  it('can begin every tensor at a multiple, with zeros before it', async () => {
    const [vector] = planFlatVectors(tensors, { alignment: 4 });
    if (!vector) throw new Error('no vector');
    expect(vector).toMatchObject({ length: 16, alignment: 4 });
    expect(vector.entries.map(({ offset }) => offset)).toEqual([0, 4, 8]);
    const packed = Float32Array.from({ length: 12 }, (_, i) => i + 1);
    const spread = withGaps(packed, vector);
    expect([...spread]).toEqual([1, 2, 3, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0]);
    expect([...withoutGaps(spread, vector)]).toEqual([...packed]);

    const graph = new Graph('round_trip');
    const values = unflatten(graph.input('x', 'float32', [16]), vector);
    graph.output('y', flatten(values, vector));
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const { y } = await session.run({ x: hostTensor('float32', [16], spread) });
    expect([...float32Data(y, 'y')]).toEqual([...spread]);
    await session.release();
  });

  it('refuse a tensor that is missing', () => {
    const [vector] = planFlatVectors(tensors);
    if (!vector) throw new Error('no vector');
    expect(() => flatten(new Map(), vector)).toThrow(/no value was given for 't0'/);
  });
});
