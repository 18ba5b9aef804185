import { describe, expect, it } from 'vitest';
import { OnnxFormatError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { readOnnx } from '../../src/graph/onnx/read.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add, gather, gemm, relu, reshape } from '../../src/graph/ops/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

function smallModel(): Uint8Array {
  const graph = new Graph('small');
  const x = graph.input('x', 'float32', ['batch_size', 3]);
  const t = graph.input('t', 'int64', [1]);
  const random = new RandomStream(1);
  const constant = (name: string, shape: number[]) =>
    graph.constant('float32', shape, random.fillNormal(new Float32Array(shape.reduce((a, b) => a * b))), name);
  const row = gather(constant('table', [5, 4]), t);
  graph.output('y', reshape(relu(add(gemm(x, constant('w', [3, 4]), row), constant('b', [4]))), [-1, 2, 2]));
  return writeOnnx(graph);
}

describe('readOnnx', () => {
  it('reads what was written: the same bytes again, and the same results', async () => {
    const bytes = smallModel();
    const graph = readOnnx(bytes);
    expect(graph.inputs.map(({ name, shape }) => [name, shape])).toEqual([
      ['x', ['batch_size', 3]],
      ['t', [1]],
    ]);
    expect(graph.constants.find(({ name }) => name === 'w')?.shape).toEqual([3, 4]);
    const run = async (model: Uint8Array) => {
      const session = await Session.create(model, 'cpu');
      const { y } = await session.run({
        x: hostTensor('float32', [2, 3], Float32Array.of(1, -2, 3, 4, 5, -6)),
        t: hostTensor('int64', [1], BigInt64Array.of(2n)),
      });
      return y?.data;
    };
    expect(await run(writeOnnx(graph))).toEqual(await run(bytes));
  });

  it('keeps an axis of length 0, which is no axis of unknown length', () => {
    const graph = new Graph('empty');
    graph.output('y', relu(graph.input('x', 'float32', [0, 2, 'n'])));
    expect(readOnnx(writeOnnx(graph)).inputs[0]?.shape).toEqual([0, 2, 'n']);
  });

  it('reads or refuses 2,000 damaged models, and nothing else', () => {
    const bytes = smallModel();
    const random = new RandomStream(5);
    let refused = 0;
    for (let i = 0; i < 2000; i++) {
      const copy = bytes.slice(0, random.uniform() < 0.3 ? random.integer(bytes.length) : bytes.length);
      for (let flips = random.integer(4); flips >= 0 && copy.length > 0; flips--) {
        const at = random.integer(copy.length);
        copy[at] = (copy[at] as number) ^ (1 << random.integer(8));
      }
      try {
        expect(readOnnx(copy)).toBeInstanceOf(Graph);
      } catch (error) {
        if (!(error instanceof OnnxFormatError)) throw error;
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(500);
  });
});
