import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { runExample } from '../run-example.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'iso-graph-docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('the examples of docs/graph.md run, and the graph has the gradient of its loss', async () => {
  const text = readFileSync(path.join(root, 'docs/graph.md'), 'utf8');
  const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, block = '']) => block);
  expect(blocks).toHaveLength(4);
  for (const [i, block] of blocks.entries()) {
    const file = path.join(folder, `example-${i}.mts`);
    const local = block
      .replaceAll("'iso-diffusion/graph'", `'${path.join(root, 'src/graph/index.ts')}'`)
      .replaceAll("'iso-diffusion'", `'${path.join(root, 'src/index.ts')}'`);
    writeFileSync(file, local);
    await runExample(file, [], folder);
  }
  const session = await Session.create(readFileSync(path.join(folder, 'regression.onnx')), 'cpu');
  const outputs = await session.run({
    x: hostTensor('float32', [8, 3], new Float32Array(24).fill(1)),
    weight: hostTensor('float32', [3, 1], Float32Array.of(1, 2, 3)),
    bias: hostTensor('float32', [1], Float32Array.of(-2)),
  });
  await session.release();
  // Each of the 8 predictions is 4, and the derivative by it 2 * 4 / 8.
  expect(outputs.loss?.data).toEqual(Float32Array.of(16));
  expect(outputs.d_bias?.data).toEqual(Float32Array.of(8));
  expect(outputs.d_weight?.data).toEqual(Float32Array.of(8, 8, 8));
});
