import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { elementCount } from '../../src/graph/types.ts';
import type { DiffusionModel } from '../../src/models/model.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session } from '../../src/runtime/session.ts';

/** A model whose weights are inputs of its graph: what is being trained can be asked between two steps without a new session. */
export class Denoiser {
  private weights: Record<string, RuntimeTensor> = {};

  private constructor(
    private readonly session: Session,
    private readonly model: DiffusionModel,
  ) {}

  static async create(model: DiffusionModel, device: 'cpu' | 'webgpu' = 'cpu'): Promise<Denoiser> {
    const graph = new Graph('denoiser');
    const parameters = new Map(
      model.parameters.map(({ name, shape }) => [name, graph.input(name, 'float32', shape)] as const),
    );
    const sample = graph.input('sample', 'float32', ['batch', ...model.sampleShape]);
    const timestep = graph.input('timestep', 'int32', [1]);
    const context = new ForwardContext(parameters, { modelName: model.config._class_name });
    graph.output('output', model.forward({ sample, timestep, class_labels: undefined }, context));
    return new Denoiser(await Session.create(writeOnnx(graph), device), model);
  }

  /** @param vector all parameters in the model's order, one after another; it is read when the model is asked. */
  use(vector: Float32Array): void {
    let end = 0;
    this.weights = Object.fromEntries(
      this.model.parameters.map(({ name, shape }) => {
        const start = end;
        end += elementCount(shape);
        return [name, hostTensor('float32', shape, vector.subarray(start, end))];
      }),
    );
  }

  /** The model's output for samples of one timestep, of their length. */
  async predict(samples: Float32Array, timestep: number): Promise<Float32Array> {
    const { sampleShape } = this.model;
    const count = samples.length / elementCount(sampleShape);
    const { output } = await this.session.run({
      ...this.weights,
      sample: hostTensor('float32', [count, ...sampleShape], samples),
      timestep: hostTensor('int32', [1], Int32Array.of(timestep)),
    });
    return float32Data(output, 'output');
  }

  release(): Promise<void> {
    return this.session.release();
  }
}
