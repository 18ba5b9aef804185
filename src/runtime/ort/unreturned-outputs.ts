import type { ModelProto } from '../../graph/onnx/schema.ts';
import { RuntimeExecutionError, type RuntimeTensor, type Session, type TensorMap } from '../session.ts';

const SEQUENCE = 'not_a_tensor';
/** What onnxruntime-node says of an output that is a sequence, once the run is over. */
const REFUSED = 'Non tensor type';

/**
 * The model with one more output, the first, that is no tensor: a sequence that holds the output `name`. See
 * `runUnreturned`.
 */
export function withSequenceOutput(model: ModelProto, name: string): ModelProto {
  const { graph = {} } = model;
  const tensor = graph.output?.find((output) => output.name === name)?.type;
  return {
    ...model,
    graph: {
      ...graph,
      node: [...(graph.node ?? []), { opType: 'SequenceConstruct', input: [name], output: [SEQUENCE] }],
      output: [{ name: SEQUENCE, type: { sequenceType: { elemType: tensor } } }, ...(graph.output ?? [])],
    },
  };
}

/**
 * Runs a model made by `withSequenceOutput` so that all outputs lie in `fetches` only.
 *
 * onnxruntime-node (1.30) writes into preallocated outputs, but then copies each of them for the object that it returns
 * (https://github.com/microsoft/onnxruntime/pull/32346 would end that): for gradients as much memory again as the
 * parameters, and a tenth of a step. It has no option against it, but it makes that object last and in the order of the
 * outputs, and gives up at the first that is not a tensor.
 *
 * @throws {RuntimeExecutionError} when the run fails.
 */
export async function runUnreturned(
  session: Session,
  feeds: TensorMap,
  fetches: Readonly<Record<string, RuntimeTensor>>,
): Promise<void> {
  try {
    await session.run(feeds, { [SEQUENCE]: null, ...fetches });
  } catch (error) {
    if (!(error instanceof RuntimeExecutionError && error.message.includes(REFUSED))) throw error;
  }
}
