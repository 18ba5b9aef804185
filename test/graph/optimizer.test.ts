import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { flatten, planFlatVectors, unflatten, withGaps, withoutGaps } from '../../src/graph/flat-vectors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import {
  type AdamSettings,
  adamScalars,
  adamStep,
  clipByGlobalNorm,
  emaStep,
  globalNorm,
} from '../../src/graph/optimizer.ts';
import { namedViews } from '../../src/models/model.ts';
import { float32Data, hostTensor, Session } from '../../src/runtime/session.ts';

type Tensors = Record<'w' | 'b' | 's', number[]>;
interface Case {
  settings: { lr: number; betas: [number, number]; eps: number; weight_decay?: number };
  clip_norm: number | null;
  params_after: Tensors[];
  grad_norm_before_clip: number[];
  ema_after: Tensors[];
  ema_decay: number[];
}
interface Fixture extends Record<'adam' | 'adamw' | 'adamw_clip1', Case> {
  init: Tensors;
  shapes: Record<'w' | 'b' | 's', number[]>;
  grads: Tensors[];
}
const fixture: Fixture = JSON.parse(
  readFileSync(new URL('../fixtures/optim/optimizers.json', import.meta.url), 'utf8'),
);

const specs = (['w', 'b', 's'] as const).map((name) => ({ name, shape: fixture.shapes[name] }));
const joined = (tensors: Tensors) => Float32Array.from(specs.flatMap(({ name }) => tensors[name]));

/** One optimizer step over a flat vector that is cut into tensors and put together again on the way. */
function optimizerGraph(settings: AdamSettings, clipNorm: number | null) {
  const [flatVector] = planFlatVectors(specs);
  if (!flatVector) throw new Error('no vector');
  const graph = new Graph('optimizer');
  const vector = (name: string) => graph.input(name, 'float32', [flatVector.length]);
  const scalar = (name: string) => graph.input(name, 'float32', []);
  const gradient = flatten(unflatten(vector('gradient'), flatVector), flatVector);
  const norm = globalNorm([gradient]);
  const [used = gradient] = clipNorm === null ? [gradient] : clipByGlobalNorm([gradient], norm, clipNorm);
  const state = { parameters: vector('parameters'), firstMoment: vector('m'), secondMoment: vector('v') };
  const scalars = {
    stepSize: scalar('step_size'),
    epsilon: scalar('epsilon'),
    decayFactor: scalar('decayFactor'),
  };
  const next = adamStep(state, used, scalars, settings);
  graph.output('parameters_next', next.parameters);
  graph.output('m_next', next.firstMoment);
  graph.output('v_next', next.secondMoment);
  graph.output('ema_next', emaStep(vector('ema'), next.parameters, scalar('one_minus_decay')));
  graph.output('norm', norm);
  return { graph, flatVector };
}

describe.each(['adam', 'adamw', 'adamw_clip1'] as const)('%s', (name) => {
  it("follows torch's optimizer and diffusers' EMA for ten steps", async () => {
    const { settings, clip_norm, params_after, ema_after, ema_decay, grad_norm_before_clip } = fixture[name];
    const [beta1, beta2] = settings.betas;
    const adam = { beta1, beta2, epsilon: settings.eps, weight_decay: settings.weight_decay ?? 0 };
    const { graph, flatVector } = optimizerGraph(adam, clip_norm);
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const vector = (data: Float32Array) => hostTensor('float32', [flatVector.length], data);
    const scalar = (value: number) => hostTensor('float32', [], Float32Array.of(value));
    const initial = vector(joined(fixture.init));
    let state = {
      parameters: initial,
      m: vector(new Float32Array(flatVector.length)),
      v: vector(new Float32Array(flatVector.length)),
      ema: initial,
    };
    for (const [index, gradients] of fixture.grads.entries()) {
      const { stepSize, epsilon, decayFactor } = adamScalars(index + 1, settings.lr, adam);
      const outputs = await session.run({
        ...state,
        gradient: vector(joined(gradients)),
        step_size: scalar(stepSize),
        epsilon: scalar(epsilon),
        decayFactor: scalar(decayFactor),
        one_minus_decay: scalar(1 - (ema_decay[index] as number)),
      });
      const take = (output: string) => float32Data(outputs[output], output);
      // float32 rounding in another order of operations: a few units in the last place a step.
      expectClose(namedViews(specs, take('parameters_next')), params_after[index] as Tensors, 3e-6);
      expectClose(namedViews(specs, take('ema_next')), ema_after[index] as Tensors, 3e-6);
      if (clip_norm !== null)
        expect((take('norm')[0] as number) / (grad_norm_before_clip[index] as number)).toBeCloseTo(1, 5);
      state = {
        parameters: vector(take('parameters_next')),
        m: vector(take('m_next')),
        v: vector(take('v_next')),
        ema: vector(take('ema_next')),
      };
    }
  });
});

function expectClose(actual: Map<string, Float32Array>, expected: Tensors, tolerance: number): void {
  for (const [name, values] of Object.entries(expected)) {
    values.forEach((value, i) => {
      expect(Math.abs((actual.get(name)?.[i] as number) - value), `${name}[${i}]`).toBeLessThanOrEqual(
        tolerance * (1 + Math.abs(value)),
      );
    });
  }
}

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
