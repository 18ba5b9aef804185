import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { add, mul, reshape, square } from '../../src/graph/ops/index.ts';
import { GradientSession } from '../../src/runtime/ort/gradient-session.ts';
import { hostTensor } from '../../src/runtime/session.ts';

const LENGTH = 2 ** 20;

async function squareSession() {
  const graph = new Graph('gradients');
  const weights = graph.input('w', 'float32', [LENGTH]);
  const scale = graph.input('scale', 'float32', [1]);
  graph.output('d/w', mul(add(weights, weights), scale));
  graph.output('terms', reshape(square(scale), [1]));
  const value = Float32Array.from({ length: LENGTH }, (_, i) => i / 2);
  const gradient = new Float32Array(LENGTH);
  const parameter = { name: 'w', gradientName: 'd/w', shape: [LENGTH], value, gradient };
  return { session: await GradientSession.create(graph, [parameter]), value, gradient };
}
const scaleOf = (scale: number) => ({ scale: hostTensor('float32', [1], Float32Array.of(scale)) });

describe('GradientSession', () => {
  it('reads parameters and writes gradients where they lie, anew in every run', async () => {
    const { session, value, gradient } = await squareSession();
    expect([...(await session.run(scaleOf(3)))]).toEqual([9]);
    expect(gradient[7]).toBe(21);
    value[7] = 100;
    expect([...(await session.run(scaleOf(0.5)))]).toEqual([0.25]);
    expect(gradient[7]).toBe(100);
    await session.release();
  });

  it('makes no copies of the gradients', async () => {
    const { session } = await squareSession();
    await session.run(scaleOf(1));
    const before = process.memoryUsage().arrayBuffers;
    await session.run(scaleOf(1));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(LENGTH);
    await session.release();
  });

  it('fails with what onnxruntime says when a run fails', async () => {
    const { session } = await squareSession();
    await expect(session.run({ scale: hostTensor('float32', [2], Float32Array.of(1, 2)) })).rejects.toThrow(
      /onnxruntime failed on 'cpu'/,
    );
    await session.release();
  });
});

describe('hideShapes', () => {
  it('lets go of buffers between the phases that need them, and changes no value', () => {
    const script = fileURLToPath(new URL('./step-memory.ts', import.meta.url));
    const run = (declared: boolean): { mebibytes: number; first: number } =>
      JSON.parse(execFileSync(process.execPath, ['--import', 'tsx', script, String(declared)], { encoding: 'utf8' }));
    const [declared, undeclared] = [run(true), run(false)];
    expect(undeclared.first).toBe(declared.first);
    expect(undeclared.mebibytes).toBeLessThan(0.8 * declared.mebibytes);
  }, 60_000);
});
