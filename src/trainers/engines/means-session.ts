import type { Graph } from '../../graph/graph.ts';
import { encodeModel, modelProto } from '../../graph/onnx/write.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { float32Data, Session, type SessionOptions, type TensorMap } from '../../runtime/session.ts';

/** The output of the graph. */
export const MEANS = 'means';

/** A forward pass of a batch, for the means that a loss wants over all batches of a step. */
export class MeansSession {
  private constructor(
    private readonly session: Session,
    readonly names: readonly string[],
  ) {}

  /** @param graph with the output `means`, float32 [n], in the order of `names`. */
  static async create(
    graph: Graph,
    names: readonly string[],
    device: ConcreteDevice,
    options: SessionOptions = {},
  ): Promise<MeansSession> {
    const model = encodeModel(modelProto(graph, {}, { roundsFloat16: device === 'cpu' }));
    return new MeansSession(await Session.create(model, device, options), names);
  }

  /** @param feeds may have more than the inputs of the graph. */
  async run(feeds: TensorMap): Promise<Float32Array> {
    const outputs = await this.session.run(this.session.used(feeds));
    return float32Data(outputs[MEANS], MEANS);
  }

  release(): Promise<void> {
    return this.session.release();
  }
}
