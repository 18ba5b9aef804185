import type { Graph } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session, type TensorMap } from './session.ts';

export interface GradientParameter {
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

/** Runs a graph of gradients on the host without copies: it reads parameters and writes gradients where they lie. */
export class GradientSession {
  private readonly parameterFeeds: Record<string, RuntimeTensor> = {};
  private readonly gradientFetches: Record<string, RuntimeTensor | null> = { terms: null };

  private constructor(
    private readonly session: Session,
    parameters: readonly GradientParameter[],
  ) {
    for (const { name, gradientName, shape, value, gradient } of parameters) {
      if (session.inputNames.includes(name)) this.parameterFeeds[name] = hostTensor('float32', shape, value);
      this.gradientFetches[gradientName] = hostTensor('float32', shape, gradient);
    }
  }

  static async create(graph: Graph, parameters: readonly GradientParameter[]): Promise<GradientSession> {
    // Laid out ahead, the memory of a step would come on top of what the first run took: 415 MiB for the U-Net.
    const session = await Session.create(writeOnnx(graph), 'cpu', { plansMemory: false });
    return new GradientSession(session, parameters);
  }

  /** Computes the gradients of a batch. Returns the graph's output `terms`. */
  async run(feeds: TensorMap): Promise<Float32Array> {
    const { terms } = await this.session.run({ ...feeds, ...this.parameterFeeds }, this.gradientFetches);
    return float32Data(terms, 'terms');
  }

  release(): Promise<void> {
    return this.session.release();
  }
}
