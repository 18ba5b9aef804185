import type { OnnxProgram } from '../graph/onnx/decode.ts';
import type { NodeProto } from '../graph/onnx/schema.ts';

/**
 * A program whose timestep is one scalar for the batch, as one that takes a vector of one for each sample: the nodes that
 * make a vector of one element of the scalar then have nothing to do. Whether the rest works with a vector has to be
 * tried.
 */
export function withTimestepVector({ graph, opset }: OnnxProgram): OnnxProgram {
  const scalars = new Set(['timestep']);
  const node = (graph.node ?? []).map((candidate): NodeProto => {
    const [data = ''] = candidate.input ?? [];
    if (!scalars.has(data)) return candidate;
    const { opType = '', output = [] } = candidate;
    if (opType === 'Cast' || opType === 'Identity') for (const name of output) scalars.add(name);
    const makesVector = opType === 'Unsqueeze' || opType === 'Reshape';
    return makesVector ? { ...candidate, opType: 'Identity', input: [data], attribute: [] } : candidate;
  });
  return { opset, graph: { ...graph, node } };
}
