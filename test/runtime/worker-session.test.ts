import { afterAll, expect, it } from 'vitest';
import { RuntimeExecutionError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add } from '../../src/graph/ops/index.ts';
import { hostTensor } from '../../src/runtime/session.ts';
import { WorkerSession } from '../../src/runtime/worker-session.ts';

const graph = new Graph('double');
const x = graph.input('x', 'float32', ['n']);
graph.output('y', add(x, x));
const session = new WorkerSession(writeOnnx(graph), 1);
afterAll(() => session.release());
const feed = (...values: number[]) => ({
  x: hostTensor('float32', [values.length], Float32Array.from(values)),
});

it('answers runs that overlap, each with its own outputs', async () => {
  const answers = await Promise.all([session.run(feed(1, 2)), session.run(feed(3))]);
  expect(answers.map(({ y }) => Array.from(y?.data as Float32Array))).toEqual([[2, 4], [6]]);
  expect(answers[0]?.y?.dims).toEqual([2]);
});

it('goes on after a run that failed', async () => {
  await expect(session.run({})).rejects.toThrow(RuntimeExecutionError);
  expect((await session.run(feed(5))).y?.data).toEqual(Float32Array.of(10));
});

it('names what is wrong with a model that cannot be loaded, and ends', async () => {
  const broken = new WorkerSession(Uint8Array.of(1, 2, 3), 1);
  await expect(broken.run(feed(1))).rejects.toThrow(/worker thread/);
  await expect(broken.run(feed(1))).rejects.toThrow(RuntimeExecutionError);
});

it('rejects what is under way when it is released', async () => {
  const other = new WorkerSession(writeOnnx(graph), 1);
  const run = other.run(feed(1));
  await other.release();
  await expect(run).rejects.toThrow(RuntimeExecutionError);
});
