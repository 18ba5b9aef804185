import { DisposedError } from '../errors.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { elementCount } from '../graph/types.ts';
import {
  type DrawingBatch,
  type DrawingWeight,
  drawingGraph,
  formGraph,
  isConstant,
  type WeightForm,
} from '../models/drawing-graph.ts';
import type { DiffusionModel } from '../models/model.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session, type TensorMap } from '../runtime/session.ts';

/** Sessions for batches of so many sizes are kept: the last batch of a call is often smaller than the others. */
const MAX_SESSIONS = 2;

interface SizedSession {
  readonly session: Promise<Session>;
  running: number;
}

/**
 * A model on the cpu in the layout in which it draws, in place of a session of the exported graph. Each size of a batch has
 * a session of its own; all of them read the same weights, where they lie.
 */
export class DrawingNetwork {
  readonly device = 'cpu';
  readonly outputNames: readonly string[] = ['out_sample'];
  readonly inputNames: readonly string[];
  /** The one that was used last is last. */
  private readonly sessions = new Map<string, SizedSession>();
  private weights: TensorMap;
  private isReleased = false;

  private constructor(
    private readonly model: DiffusionModel,
    private constants: ReadonlyMap<string, Float32Array>,
    weights: TensorMap,
  ) {
    this.inputNames = ['sample', 'timestep', ...(model.classCount === undefined ? [] : ['class_labels'])];
    this.weights = weights;
  }

  /** @param weights every parameter by name. They are taken out of the map: most are needed in another form only. */
  static async create(model: DiffusionModel, weights: Map<string, Float32Array>): Promise<DrawingNetwork> {
    const constants = new Map(
      model.parameters.filter(isConstant).map(({ name }) => [name, weights.get(name) ?? new Float32Array()]),
    );
    const { weights: wanted } = drawingGraph(model, constants, { samples: 1, timesteps: 1 });
    const prepared = await preparedWeights(wanted, weights);
    // onnxruntime packs a constant matrix once. It then multiplies every row in the same order of sums, however many there are.
    for (const { name } of wanted.filter(({ form }) => form === 'columns')) {
      constants.set(name, float32Data(prepared[name], name));
      delete prepared[name];
    }
    return new DrawingNetwork(model, constants, prepared);
  }

  inputType(name: string): { readonly dtype: string; readonly shape: readonly (number | string)[] } {
    if (name === 'sample') return { dtype: 'float32', shape: ['batch_size', ...this.model.sampleShape] };
    if (name === 'class_labels') return { dtype: 'int64', shape: ['label_count'] };
    return { dtype: this.model.takesFractionalTimesteps ? 'float32' : 'int64', shape: ['timestep_count'] };
  }

  /** @throws {DisposedError} and {RuntimeExecutionError} as a session. */
  async run(feeds: TensorMap): Promise<TensorMap> {
    this.checkUsable();
    const sized = this.sized({
      samples: feeds.sample?.dims[0] ?? 1,
      timesteps: feeds.timestep?.dims[0] ?? 1,
    });
    sized.running++;
    try {
      const session = await sized.session;
      this.checkUsable();
      return await session.run({ ...feeds, ...this.weights });
    } finally {
      sized.running--;
      await this.releaseOldest();
    }
  }

  /** @throws {DisposedError} after `release`. */
  checkUsable(): void {
    if (this.isReleased)
      throw new DisposedError('the model was disposed of, and cannot be used after dispose(): load it again');
  }

  async release(): Promise<void> {
    this.isReleased = true;
    this.weights = {};
    this.constants = new Map();
    const sessions = [...this.sessions.values()];
    this.sessions.clear();
    for (const { session } of sessions) await (await session).release();
  }

  private sized(batch: DrawingBatch): SizedSession {
    const key = `${batch.samples}, ${batch.timesteps}`;
    const sized = this.sessions.get(key) ?? { session: this.createSession(batch), running: 0 };
    this.sessions.delete(key);
    this.sessions.set(key, sized);
    return sized;
  }

  private createSession(batch: DrawingBatch): Promise<Session> {
    const { graph } = drawingGraph(this.model, this.constants, batch);
    // Laid out ahead, the memory of a run would come on top of what the first one took.
    return Session.create(writeOnnx(graph), 'cpu', { plansMemory: false });
  }

  private async releaseOldest(): Promise<void> {
    for (const [key, { session, running }] of this.sessions) {
      if (this.sessions.size <= MAX_SESSIONS) return;
      if (running > 0) continue;
      this.sessions.delete(key);
      await (await session).release();
    }
  }
}

/** The inputs of a drawing graph, made of `weights`, which are taken out of the map. */
async function preparedWeights(
  wanted: readonly DrawingWeight[],
  weights: Map<string, Float32Array>,
): Promise<Record<string, RuntimeTensor>> {
  const prepared: Record<string, RuntimeTensor> = {};
  const sessions = new Map<WeightForm, Session>();
  try {
    for (const { name, parameter, form, shape } of wanted) {
      const values = weights.get(parameter.name) ?? new Float32Array();
      prepared[name] = hostTensor('float32', shape, form ? await inForm(form, parameter.shape, values) : values);
    }
  } finally {
    for (const session of sessions.values()) await session.release();
  }
  weights.clear();
  return prepared;

  async function inForm(form: WeightForm, [outputs = 1, inputs = 1, ...taps]: readonly number[], values: Float32Array) {
    const session = sessions.get(form) ?? (await Session.create(writeOnnx(formGraph(form)), 'cpu'));
    sessions.set(form, session);
    const weight = hostTensor('float32', [outputs, inputs, elementCount(taps)], values);
    return float32Data((await session.run({ weight })).prepared, 'prepared');
  }
}
