import type { Graph } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session, type TensorMap } from './session.ts';

export interface SplitTrainingGraphs {
  /** Takes each parameter by name, gives `terms` and its gradient as `gradientName(parameter)`. */
  readonly gradient: Graph;
  /** Takes `gradient`, the state vectors and scalars, gives each state vector with the suffix `_next`. */
  readonly update: Graph;
  /** Takes `vector`, gives `sum`. */
  readonly squareSum: Graph;
}

export interface SplitParameter {
  readonly name: string;
  readonly gradientName: string;
  readonly shape: readonly number[];
  readonly length: number;
}

/**
 * Elements of the state updated at a time: the vectors of one stretch and their intermediates stay in the cache, where
 * passes over the whole state go to memory, 20 of them a step.
 */
const STRETCH = 2 ** 16;

/**
 * Training on the host with parameters, moments, average and gradients held once each: one graph gives the gradients,
 * another updates the state in place, stretch by stretch, through a small buffer. The state of a kind is one vector in
 * the order of the parameters.
 */
export class SplitTrainingSession {
  private readonly gradients: Float32Array;
  private readonly parameterFeeds: Record<string, RuntimeTensor> = {};
  private readonly gradientFetches: Record<string, RuntimeTensor | null> = { terms: null };
  private batches = 0;

  private constructor(
    private readonly gradientSession: Session,
    private readonly updateSession: Session,
    private readonly squareSumSession: Session,
    parameters: readonly SplitParameter[],
    private readonly stateVectors: ReadonlyMap<string, Float32Array>,
  ) {
    const vector = stateVectors.get('parameters') ?? new Float32Array();
    this.gradients = new Float32Array(vector.length);
    let offset = 0;
    for (const { name, gradientName, shape, length } of parameters) {
      const range = [offset, offset + length] as const;
      this.parameterFeeds[name] = hostTensor('float32', shape, vector.subarray(...range));
      this.gradientFetches[gradientName] = hostTensor('float32', shape, this.gradients.subarray(...range));
      offset += length;
    }
  }

  /** @param initial one vector a kind of state, `parameters` among them; the session copies and then owns them. */
  static async create(
    graphs: SplitTrainingGraphs,
    parameters: readonly SplitParameter[],
    initial: ReadonlyMap<string, Float32Array>,
  ): Promise<SplitTrainingSession> {
    const open = (graph: Graph) => Session.create(writeOnnx(graph), 'cpu');
    return new SplitTrainingSession(
      await open(graphs.gradient),
      await open(graphs.update),
      await open(graphs.squareSum),
      parameters,
      new Map([...initial].map(([kind, vector]) => [kind, vector.slice()])),
    );
  }

  get inputNames(): ReadonlySet<string> {
    return new Set(this.gradientSession.inputNames);
  }

  /** Adds the gradients of a batch to those since the last update. Returns its `terms`. */
  async accumulate(feeds: TensorMap): Promise<Float32Array> {
    const before = this.batches === 0 ? undefined : this.gradients.slice();
    const known = this.gradientSession.inputNames;
    const parameters = Object.entries(this.parameterFeeds).filter(([name]) => known.includes(name));
    const outputs = await this.gradientSession.run(
      { ...feeds, ...Object.fromEntries(parameters) },
      this.gradientFetches,
    );
    if (before) addTo(this.gradients, before);
    this.batches++;
    return float32Data(outputs.terms, 'terms');
  }

  /**
   * Updates the state by the mean of the gradients, scaled down to the norm `maxNorm` where it is longer (0: never).
   *
   * @returns the norm of the mean gradient.
   */
  async update(scalars: Readonly<Record<string, number>>, maxNorm: number): Promise<number> {
    const norm = Math.sqrt(await this.squareSum()) / this.batches;
    const clipping = maxNorm > 0 ? Math.min(1, maxNorm / (norm + 1e-6)) : 1;
    const used = Object.entries({ ...scalars, gradient_scale: clipping / this.batches })
      .filter(([name]) => this.updateSession.inputNames.includes(name))
      .map(([name, value]) => [name, hostTensor('float32', [1], Float32Array.of(value))] as const);
    for (let start = 0; start < this.gradients.length; start += STRETCH)
      await this.updateStretch(start, Object.fromEntries(used));
    this.batches = 0;
    return norm;
  }

  /** A copy of every state vector. */
  async state(): Promise<Map<string, Float32Array>> {
    return new Map([...this.stateVectors].map(([kind, vector]) => [kind, vector.slice()]));
  }

  async release(): Promise<void> {
    for (const session of [this.gradientSession, this.updateSession, this.squareSumSession])
      await session.release();
  }

  private async updateStretch(start: number, scalars: TensorMap): Promise<void> {
    const gradient = this.gradients.subarray(start, start + STRETCH);
    const shape = [gradient.length];
    const feeds: Record<string, RuntimeTensor> = {
      ...scalars,
      gradient: hostTensor('float32', shape, gradient),
    };
    const fetches: Record<string, RuntimeTensor> = {};
    for (const [kind, vector] of this.stateVectors) {
      const stretch = hostTensor('float32', shape, vector.subarray(start, start + STRETCH));
      feeds[kind] = stretch;
      fetches[`${kind}_next`] = stretch;
    }
    await this.updateSession.run(feeds, fetches);
  }

  private async squareSum(): Promise<number> {
    let total = 0;
    for (let start = 0; start < this.gradients.length; start += STRETCH) {
      const stretch = this.gradients.subarray(start, start + STRETCH);
      const { sum } = await this.squareSumSession.run({
        vector: hostTensor('float32', [stretch.length], stretch),
      });
      total += float32Data(sum, 'sum')[0] ?? 0;
    }
    return total;
  }
}

function addTo(target: Float32Array, other: Float32Array): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] as number) + (other[i] as number);
}
