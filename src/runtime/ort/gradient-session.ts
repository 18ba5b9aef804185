import { RuntimeExecutionError } from '../../errors.ts';
import type { Graph } from '../../graph/graph.ts';
import { cutModel } from '../../graph/onnx/cut.ts';
import { shapesAsInputs } from '../../graph/onnx/hidden-shapes.ts';
import type { ModelProto } from '../../graph/onnx/schema.ts';
import { encodeModel, modelProto } from '../../graph/onnx/write.ts';
import { allocate, type DType, elementCount, fixedShape } from '../../graph/types.ts';
import { bytesOf } from '../../platform/bytes.ts';
import type { ConcreteDevice } from '../device.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session, type TensorMap } from '../session.ts';
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
 * Runs a graph of gradients whose parameters and gradients lie on the host: it reads and writes them there. On the cpu
 * nothing is copied, unless onnxruntime does not write into given tensors. On a GPU, parameters go up and gradients come
 * down in each run.
 */
export class GradientSession {
  private readonly parameterFeeds: Record<string, RuntimeTensor>;

  private constructor(
    private readonly session: WritingSession,
    /** The part before the cut, and the values it leaves for the other. */
    private readonly first: { readonly session: WritingSession; readonly left: TensorMap } | undefined,
    parameters: readonly GradientParameter[],
  ) {
    this.parameterFeeds = Object.fromEntries(
      parameters.map(({ name, shape, value }) => [name, hostTensor('float32', shape, value)]),
    );
  }

  /**
   * @param graph with the output `terms`, a vector, beside the gradients.
   * @param cutAt an output, a vector, behind which the graph is cut: `forward` gives it before `run` does the rest. Default:
   * none. What the first part leaves for the second lies on the host.
   * @param maxThreads see `SessionOptions`.
   */
  static async create(
    graph: Graph,
    parameters: readonly GradientParameter[],
    {
      device = 'cpu',
      cutAt,
      maxThreads,
    }: {
      readonly device?: ConcreteDevice;
      readonly cutAt?: string | undefined;
      readonly maxThreads?: number | undefined;
    } = {},
  ): Promise<GradientSession> {
    // As in float16, where a graph is in it.
    const rounded = { roundsFloat16: device === 'cpu' };
    const gradients = parameters.map(
      ({ gradientName, shape, gradient }) => [gradientName, hostTensor('float32', shape, gradient)] as const,
    );
    const fetches = { ...vectorOutput(graph, 'terms'), ...Object.fromEntries(gradients) };
    if (cutAt === undefined)
      return new GradientSession(
        await WritingSession.create(modelProto(graph, {}, rounded), 'terms', fetches, { device, maxThreads }),
        undefined,
        parameters,
      );
    const { before, after, between } = cutModel(graph, cutAt, rounded);
    const left = Object.fromEntries(
      between.map(({ name, dtype, shape }) => [name, emptyTensor(dtype, fixedShape(shape))]),
    );
    const on = { device, maxThreads };
    const first = await WritingSession.create(before, cutAt, { ...vectorOutput(graph, cutAt), ...left }, on);
    try {
      const session = await WritingSession.create(after, 'terms', fetches, on);
      return new GradientSession(session, { session: first, left }, parameters);
    } catch (error) {
      await first.release();
      throw error;
    }
  }

  /** Whether the graph was cut. */
  get isCut(): boolean {
    return this.first !== undefined;
  }

  /** Runs the part before the cut, and returns what it was cut at. `run` then takes the same batch. */
  async forward(feeds: TensorMap): Promise<Float32Array> {
    return (await this.first?.session.run({ ...feeds, ...this.parameterFeeds })) ?? new Float32Array();
  }

  /** Computes the gradients of a batch. Returns the graph's output `terms`. */
  run(feeds: TensorMap): Promise<Float32Array> {
    return this.session.run({ ...feeds, ...this.parameterFeeds, ...this.first?.left });
  }

  async release(): Promise<void> {
    await this.first?.session.release();
    await this.session.release();
  }
}

/** A session that writes its outputs into the same tensors at every run. */
class WritingSession {
  private constructor(
    private readonly session: Session,
    private readonly vector: string,
    private readonly fetches: TensorMap,
    private readonly writesGiven: boolean,
  ) {}

  /** @param vector the output that `run` returns. */
  static async create(
    plain: ModelProto,
    vector: string,
    fetches: TensorMap,
    { device, maxThreads }: { readonly device: ConcreteDevice; readonly maxThreads?: number | undefined },
  ): Promise<WritingSession> {
    const writesGiven = await writesGivenOutputs(device);
    const hidden = hideShapes(plain);
    const model = writesGiven ? withSequenceOutput(hidden, vector) : hidden;
    // Its shapes are hidden already. Laid out ahead, the memory of a step would come on top of what the first run took: 415 MiB for the U-Net.
    const session = await Session.create(encodeModel(model), device, {
      plansMemory: false,
      maxThreads,
      hidesShapes: false,
    });
    return new WritingSession(session, vector, fetches, writesGiven);
  }

  async run(feeds: TensorMap): Promise<Float32Array> {
    const { session, fetches, vector } = this;
    const used = session.used(feeds);
    if (this.writesGiven) await runUnreturned(session, used, fetches);
    else copyInto(fetches, await session.run(used));
    return float32Data(fetches[vector], vector).slice();
  }

  release(): Promise<void> {
    return this.session.release();
  }
}

/** Room for the output of that name, a vector. */
function vectorOutput(graph: Graph, name: string): TensorMap {
  const shape = graph.outputs.find((output) => output.name === name)?.value.shape ?? [];
  return { [name]: emptyTensor('float32', fixedShape(shape)) };
}

function emptyTensor(dtype: DType, shape: readonly number[]): RuntimeTensor {
  return hostTensor(dtype, shape, allocate(dtype, elementCount(shape)));
}

/** @throws {RuntimeExecutionError} when an output is missing or has another size. */
function copyInto(targets: TensorMap, outputs: TensorMap): void {
  for (const [name, { data: target }] of Object.entries(targets)) {
    const data = outputs[name]?.data;
    if (!ArrayBuffer.isView(data) || !ArrayBuffer.isView(target) || data.byteLength !== target.byteLength)
      throw new RuntimeExecutionError(`output '${name}' is missing, or not of the size that the graph gives it`);
    bytesOf(target).set(bytesOf(data));
  }
}

/**
 * The same model without shapes of inputs, and with `shapesAsInputs`.
 *
 * Where two values are known to have the same shape, onnxruntime's planner gives them one buffer, even when thousands of
 * nodes lie between them, and keeps it all the while. The backward pass meets every shape of the forward pass again, so
 * a training step would hold for each shape the most buffers that it ever needs of it, all at once: 388 MiB for
 * ddpm-cifar10 at batch 4, where 146 MiB are in use at any time.
 */
export function hideShapes(model: ModelProto): ModelProto {
  const { graph = {} } = model;
  const input = [
    ...(graph.input ?? []).map(({ name, type }) => ({
      name,
      type: { tensorType: { elemType: type?.tensorType?.elemType } },
    })),
    ...shapesAsInputs(graph),
  ];
  return { ...model, graph: { ...graph, input } };
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
