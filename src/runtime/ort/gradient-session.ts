import type { Graph } from '../../graph/graph.ts';
import type { ModelProto } from '../../graph/onnx/schema.ts';
import { encodeModel, hideShapes, modelProto } from '../../graph/onnx/write.ts';
import { elementCount } from '../../graph/types.ts';
import {
  float32Data,
  hostTensor,
  RuntimeExecutionError,
  type RuntimeTensor,
  Session,
  type TensorMap,
} from '../session.ts';
import { writesGivenOutputs } from './given-outputs.ts';

interface GradientParameter {
  /** The input that takes the parameter. */
  readonly name: string;
  /** The output that gives its gradient. */
  readonly gradientName: string;
  readonly shape: readonly number[];
  /** Read anew by every run. */
  readonly value: Float32Array;
  /** Overwritten by every run. */
  readonly gradient: Float32Array;
}

/**
 * Runs a graph of gradients on the host: it reads parameters and writes gradients where they lie. Nothing is copied,
 * unless onnxruntime does not write into given tensors.
 */
export class GradientSession {
  private readonly parameterFeeds: Record<string, RuntimeTensor> = {};
  private readonly fetches: Record<string, RuntimeTensor> = {};

  private constructor(
    private readonly session: Session,
    parameters: readonly GradientParameter[],
    private readonly terms: Float32Array,
    private readonly writesGiven: boolean,
  ) {
    this.fetches.terms = hostTensor('float32', [terms.length], terms);
    for (const { name, gradientName, shape, value, gradient } of parameters) {
      if (session.inputNames.includes(name)) this.parameterFeeds[name] = hostTensor('float32', shape, value);
      this.fetches[gradientName] = hostTensor('float32', shape, gradient);
    }
  }

  /** @param graph with the output `terms`, a vector, beside the gradients. */
  static async create(graph: Graph, parameters: readonly GradientParameter[]): Promise<GradientSession> {
    const writesGiven = await writesGivenOutputs();
    const plain = hideShapes(modelProto(graph, {}, { roundsFloat16: true }));
    const model = writesGiven ? withSequenceOutput(plain, 'terms') : plain;
    // Laid out ahead, the memory of a step would come on top of what the first run took: 415 MiB for the U-Net.
    const session = await Session.create(encodeModel(model), 'cpu', { plansMemory: false });
    const termsShape = graph.outputs.find(({ name }) => name === 'terms')?.value.shape.map(Number) ?? [];
    return new GradientSession(session, parameters, new Float32Array(elementCount(termsShape)), writesGiven);
  }

  /** Computes the gradients of a batch. Returns the graph's output `terms`. */
  async run(feeds: TensorMap): Promise<Float32Array> {
    const all = { ...this.session.used(feeds), ...this.parameterFeeds };
    if (this.writesGiven) await runUnreturned(this.session, all, this.fetches);
    else copyInto(this.fetches, await this.session.run(all));
    return this.terms.slice();
  }

  release(): Promise<void> {
    return this.session.release();
  }
}

function copyInto(targets: TensorMap, outputs: TensorMap): void {
  for (const [name, target] of Object.entries(targets)) float32Data(target, name).set(float32Data(outputs[name], name));
}

const SEQUENCE = 'not_a_tensor';
/** What onnxruntime-node says of an output that is a sequence, once the run is over. */
const REFUSED = 'Non tensor type';

/**
 * The model with one more output, the first, which is not a tensor but a sequence that holds the output `name`. See
 * `runUnreturned`.
 */
function withSequenceOutput(model: ModelProto, name: string): ModelProto {
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
 * Runs a model made by `withSequenceOutput`, whose outputs then lie in `fetches` only.
 *
 * onnxruntime-node (1.30) writes into preallocated outputs, but then copies each of them for the object that it returns
 * (https://github.com/microsoft/onnxruntime/pull/32346 would end that): for gradients as much memory again as the
 * parameters, and a tenth of a step. It has no option against it, but it makes that object last and in the order of the
 * outputs, and gives up at the first that is not a tensor.
 *
 * @throws {RuntimeExecutionError} when the run fails.
 */
async function runUnreturned(
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
