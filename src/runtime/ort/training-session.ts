import { StateNotUpdatedError } from '../../errors.ts';
import { Graph } from '../../graph/graph.ts';
import { encodeModel, modelProto, writeOnnx } from '../../graph/onnx/write.ts';
import { add, identity } from '../../graph/ops/elementwise.ts';
import type { DType, Shape } from '../../graph/types.ts';
import type { ConcreteDevice } from '../device.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session, type TensorMap } from '../session.ts';
import { writesGivenOutputs } from './given-outputs.ts';

/** A float32 vector of the state: an input of the graph under its name, and an output for its next value. */
export interface HeldVector {
  readonly name: string;
  readonly length: number;
}

/** The output that gives the next value of a vector. */
export const nextName = (vector: string) => `${vector}_next`;

/**
 * Runs a graph that maps a state to the next state, and keeps the state where it is cheapest: on webgpu in GPU
 * buffers that are fed straight back; elsewhere in two sets of host tensors, one read while the other is written, so
 * that no step allocates. Where onnxruntime does not write into given tensors, it allocates the next state.
 */
export class TrainingSession {
  private readonly readBack = new ReadBack();
  private current: Record<string, RuntimeTensor>;
  private spare: Record<string, RuntimeTensor> | undefined;

  private constructor(
    private readonly session: Session,
    private readonly vectors: readonly HeldVector[],
    initial: ReadonlyMap<string, Float32Array>,
    writesGiven: boolean,
  ) {
    this.current = hostState(vectors, initial);
    this.spare = writesGiven ? hostState(vectors) : undefined;
  }

  /**
   * @param initial the first value of each vector; one that is missing starts at zero.
   * @throws {StateNotUpdatedError} when onnxruntime does not hand on a state on this device.
   */
  static async create(
    graph: Graph,
    vectors: readonly HeldVector[],
    initial: ReadonlyMap<string, Float32Array>,
    device: ConcreteDevice,
  ): Promise<TrainingSession> {
    await selfTest(device);
    return TrainingSession.untested(graph, vectors, initial, device);
  }

  /** Without the test that this device hands on a state, which is made with such a session itself. */
  static async untested(
    graph: Graph,
    vectors: readonly HeldVector[],
    initial: ReadonlyMap<string, Float32Array>,
    device: ConcreteDevice,
  ): Promise<TrainingSession> {
    const deviceOutputs = vectors.map(({ name }) => nextName(name));
    const writesGiven = device !== 'webgpu' && (await writesGivenOutputs(device));
    const hasBodies = graph.nodes.some(({ opType }) => opType === 'Loop');
    const model = encodeModel(modelProto(graph, {}, { roundsFloat16: device === 'cpu' }));
    const session = await Session.create(model, device, { deviceOutputs, hasBodies });
    return new TrainingSession(session, vectors, initial, writesGiven);
  }

  /** See `Session.used`. */
  used(feeds: TensorMap): Record<string, RuntimeTensor> {
    return this.session.used(feeds);
  }

  /** The state where it lies, to be fed to another session of the device; valid until the next run. */
  get tensors(): TensorMap {
    return this.current;
  }

  /** Advances the state. Returns the outputs that are not state; they are valid until the next call. */
  async run(feeds: TensorMap): Promise<TensorMap> {
    if (!this.spare) return this.runAllocating(feeds);
    const spare = this.spare;
    const fetches: Record<string, RuntimeTensor | null> = {};
    for (const name of this.session.outputNames) fetches[name] = null;
    for (const { name } of this.vectors) fetches[nextName(name)] = spare[name] ?? null;
    const outputs = await this.session.run({ ...feeds, ...this.current }, fetches);
    this.spare = this.current;
    this.current = spare;
    return outputs;
  }

  /** A copy of every state vector on the host. */
  async state(): Promise<Map<string, Float32Array>> {
    const copies = new Map<string, Float32Array>();
    for (const { name } of this.vectors) {
      const tensor = this.current[name];
      if (tensor) copies.set(name, float32Data(await this.readBack.toHost(tensor), name).slice());
    }
    return copies;
  }

  async release(): Promise<void> {
    await this.readBack.release();
    for (const tensor of Object.values(this.current)) tensor.dispose();
    await this.session.release();
  }

  private async runAllocating(feeds: TensorMap): Promise<TensorMap> {
    const outputs = await this.session.run({ ...feeds, ...this.current });
    const previous = this.current;
    this.current = Object.fromEntries(this.vectors.map(({ name }) => [name, outputs[nextName(name)] as RuntimeTensor]));
    for (const tensor of Object.values(previous)) if (tensor.location === 'gpu-buffer') tensor.dispose();
    return outputs;
  }
}

const tests = new Map<ConcreteDevice, Promise<void>>();

/** Tests a device once a process. @throws {StateNotUpdatedError} when two steps do not change a state as they should. */
function selfTest(device: ConcreteDevice): Promise<void> {
  const known = tests.get(device);
  if (known) return known;
  const test = testSteps(device);
  tests.set(device, test);
  return test;
}

/** Two steps that add the state to itself: training that goes on from a state that no step has written would be silent. */
async function testSteps(device: ConcreteDevice): Promise<void> {
  const graph = new Graph('self_test');
  const state = graph.input('state', 'float32', [1]);
  graph.output(nextName('state'), add(state, state));
  const start = new Map([['state', Float32Array.of(1)]]);
  const session = await TrainingSession.untested(graph, [{ name: 'state', length: 1 }], start, device);
  for (let step = 0; step < 2; step++) await session.run({});
  const value = (await session.state()).get('state')?.[0];
  await session.release();
  if (value === 4) return;
  throw new StateNotUpdatedError(
    `onnxruntime does not hand on the state of a training run on '${device}': two steps that double 1 gave ${value}. Training would have no effect. Use another device, or another version of onnxruntime`,
  );
}

function hostState(
  vectors: readonly HeldVector[],
  initial: ReadonlyMap<string, Float32Array> = new Map(),
): Record<string, RuntimeTensor> {
  return Object.fromEntries(
    vectors.map(({ name, length }) => {
      const data = new Float32Array(length);
      data.set(initial.get(name)?.subarray(0, length) ?? []);
      return [name, hostTensor('float32', [length], data)];
    }),
  );
}

/**
 * Copies a tensor from the GPU to the host. `tensor.getData()` aborts the process on onnxruntime-node's webgpu
 * tensors (1.30), so an Identity session whose output stays on the host does the copy.
 */
class ReadBack {
  private readonly sessions = new Map<string, Promise<Session>>();

  async toHost(tensor: RuntimeTensor): Promise<RuntimeTensor> {
    if (tensor.location === 'cpu') return tensor;
    const dtype: DType = tensor.type === 'int32' ? 'int32' : 'float32';
    const session = await this.session(dtype, tensor.dims);
    const { y } = await session.run({ x: tensor });
    return y ?? tensor;
  }

  async release(): Promise<void> {
    for (const session of this.sessions.values()) await (await session).release();
    this.sessions.clear();
  }

  private session(dtype: DType, shape: Shape): Promise<Session> {
    const key = `${dtype}/${shape.join('x')}`;
    const known = this.sessions.get(key);
    if (known) return known;
    const graph = new Graph('read_back');
    graph.output('y', identity(graph.input('x', dtype, shape)));
    const session = Session.create(writeOnnx(graph), 'webgpu');
    this.sessions.set(key, session);
    return session;
  }
}
