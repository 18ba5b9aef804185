import { InferenceSession, Tensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { withHiddenReshapes } from '../../src/graph/onnx/hidden-shapes.ts';
import { encodeModel, modelProto, writeOnnx } from '../../src/graph/onnx/write.ts';
import { identity, mul, reshape, sigmoid } from '../../src/graph/ops/index.ts';

/** y = x sigmoid(x) of a reshaped x. */
function reshapedGraph(): Graph {
  const graph = new Graph('reshaped');
  const flat = reshape(graph.input('x', 'float32', ['batch_size', 2, 3]), [-1, 6]);
  graph.output('y', mul(flat, sigmoid(flat)));
  return graph;
}

const values = Float32Array.of(-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8);

describe('withHiddenReshapes', () => {
  it('keeps the inputs that a run has to have, and the results', async () => {
    const onnx = writeOnnx(reshapedGraph());
    const hidden = withHiddenReshapes(onnx);
    expect(hidden.length).toBeGreaterThan(onnx.length);
    expect(hidden.subarray(0, onnx.length)).toEqual(onnx);
    const outputs = await Promise.all(
      [onnx, hidden].map(async (bytes) => {
        const session = await InferenceSession.create(bytes, { logSeverityLevel: 3 });
        expect(session.inputNames).toEqual(['x']);
        const { y } = await session.run({ x: new Tensor('float32', values, [2, 2, 3]) });
        await session.release();
        return { dims: y?.dims, data: y?.data };
      }),
    );
    expect(outputs[0]?.dims).toEqual([2, 6]);
    expect(outputs[1]).toEqual(outputs[0]);
  });

  it('changes nothing a second time, where nothing is reshaped, of another producer, and of what is no model', () => {
    const hidden = withHiddenReshapes(writeOnnx(reshapedGraph()));
    const plain = new Graph('plain');
    plain.output('y', sigmoid(plain.input('x', 'float32', [2])));
    const foreign = encodeModel({ ...modelProto(reshapedGraph()), producerName: 'pytorch' });
    for (const bytes of [hidden, writeOnnx(plain), foreign, Uint8Array.of(7, 255, 1), new Uint8Array()])
      expect(withHiddenReshapes(bytes)).toBe(bytes);
  });
});

describe('Identity', () => {
  it('is not written where a value has two names in the graph, and is where an output has no name of its own', async () => {
    const graph = new Graph('names');
    const x = graph.input('x', 'float32', [2]);
    const y = sigmoid(identity(x));
    graph.output('y', identity(y));
    graph.output('again', identity(identity(y)));
    graph.output('given', identity(x));
    graph.output('square', mul(identity(y), y));
    const ops = modelProto(graph).graph?.node?.map(({ opType }) => opType);
    expect(ops).toEqual(['Sigmoid', 'Mul', 'Identity', 'Identity']);
    const session = await InferenceSession.create(writeOnnx(graph), { logSeverityLevel: 3 });
    const found = await session.run({ x: new Tensor('float32', Float32Array.of(0, 1), [2]) });
    await session.release();
    const gate = 1 / (1 + Math.exp(-1));
    const wanted = { y: [0.5, gate], again: [0.5, gate], given: [0, 1], square: [0.25, gate ** 2] };
    for (const [name, [a = 0, b = 0]] of Object.entries(wanted)) {
      expect(found[name]?.data[0]).toBeCloseTo(a, 6);
      expect(found[name]?.data[1]).toBeCloseTo(b, 6);
    }
  });
});
