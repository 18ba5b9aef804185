import { afterEach, describe, expect, it, vi } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { add } from '../../src/graph/ops/index.ts';
import type { Session } from '../../src/runtime/session.ts';

afterEach(() => {
  vi.restoreAllMocks();
  vi.doUnmock('../../src/runtime/ort/given-outputs.ts');
  vi.resetModules();
});

/** onnxruntime-web as it is: it computes, and leaves the tensors that it was given for its outputs as they are. */
async function ignoreGivenTensors(): Promise<void> {
  const { Session: Class } = await import('../../src/runtime/session.ts');
  const run = Class.prototype.run;
  vi.spyOn(Class.prototype, 'run').mockImplementation(function (this: Session, feeds) {
    return run.call(this, feeds);
  });
}

/** A state that two steps double, from 1. */
async function twoSteps(): Promise<number | undefined> {
  const { TrainingSession } = await import('../../src/runtime/ort/training-session.ts');
  const graph = new Graph('doubling');
  const state = graph.input('v', 'float32', [2]);
  graph.output('v_next', add(state, state));
  const vectors = [{ name: 'v', length: 2 }];
  const session = await TrainingSession.create(graph, vectors, new Map([['v', Float32Array.of(1, 1)]]), 'cpu');
  await session.run({});
  await session.run({});
  const value = (await session.state()).get('v')?.[1];
  await session.release();
  return value;
}

describe('a training session', () => {
  it('hands on the state', async () => {
    expect(await twoSteps()).toBe(4);
  });

  it('allocates it where onnxruntime does not write into given tensors', async () => {
    vi.resetModules();
    await ignoreGivenTensors();
    expect(await twoSteps()).toBe(4);
  });

  it('is refused where a step does not change the state', async () => {
    vi.resetModules();
    vi.doMock('../../src/runtime/ort/given-outputs.ts', () => ({ writesGivenOutputs: async () => true }));
    await ignoreGivenTensors();
    const refused = expect(twoSteps()).rejects;
    await refused.toThrow(/does not hand on the state.*'cpu'.*Training would have no effect/);
    const { StateNotUpdatedError } = await import('../../src/errors.ts');
    await expect(twoSteps()).rejects.toBeInstanceOf(StateNotUpdatedError);
  });
});

it('gradients are copied where onnxruntime does not write into given tensors', async () => {
  vi.resetModules();
  await ignoreGivenTensors();
  const { GradientSession } = await import('../../src/runtime/ort/gradient-session.ts');
  const graph = new Graph('gradients');
  const weight = graph.input('w', 'float32', [2]);
  graph.output('d/w', add(weight, weight));
  graph.output('terms', graph.constant('float32', [1], Float32Array.of(7)));
  const gradient = new Float32Array(2);
  const parameter = { name: 'w', gradientName: 'd/w', shape: [2], value: Float32Array.of(1, 2), gradient };
  const session = await GradientSession.create(graph, [parameter]);
  expect([...(await session.run({}))]).toEqual([7]);
  expect([...gradient]).toEqual([2, 4]);
  await session.release();
});
