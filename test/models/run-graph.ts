import type { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import type { DType, TensorData } from '../../src/graph/types.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

export interface Feed {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** Runs a graph once on onnxruntime's CPU and returns every output as plain numbers. */
export async function runGraph(
  graph: Graph,
  feeds: Readonly<Record<string, Feed>>,
): Promise<Record<string, { shape: readonly number[]; data: number[] }>> {
  const session = await Session.create(writeOnnx(graph), 'cpu');
  try {
    const tensors = Object.entries(feeds).map(
      ([name, feed]) => [name, hostTensor(feed.dtype, feed.shape, feed.data)] as const,
    );
    const outputs = await session.run(Object.fromEntries(tensors));
    return Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [
        name,
        { shape: tensor.dims, data: Array.from(tensor.data as Float32Array | Float64Array) },
      ]),
    );
  } finally {
    await session.release();
  }
}

/** max |a - b| / max |b|: the error of a whole vector relative to its largest entry. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let error = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    error = Math.max(error, Math.abs((actual[i] as number) - (expected[i] as number)));
    scale = Math.max(scale, Math.abs(expected[i] as number));
  }
  return scale === 0 ? error : error / scale;
}
