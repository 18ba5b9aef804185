import { GraphError, OnnxFormatError } from '../errors.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { readOnnx } from '../graph/onnx/read.ts';
import { applyOp } from '../graph/op-registry.ts';
import { cast, reshape } from '../graph/ops/index.ts';
import { fixedShape, formatShape } from '../graph/tensor-type.ts';
import type { DiffusionModel, ModelConfig, ParameterSpec, ParameterValues } from './model.ts';

export interface OnnxModelOptions {
  /** Which float32 constants are trained; by name and shape; default: all but scalars and
   * those whose names say `constant`. */
  readonly trainable?: (name: string, shape: readonly number[]) => boolean;
  /** Shape of a sample without the batch axis; needed where the file leaves its axes open. */
  readonly sample_shape?: readonly number[];
}

/**
 * A diffusion model read from an ONNX file, with inputs `sample` and `timestep` and one output, as a model that can be
 * trained: its constants are the parameters, its nodes the forward pass.
 *
 * @example
 * const model = OnnxModel.fromBytes(await readFile('unet.onnx'));
 * const trainer = new Trainer({ model, args, train_dataset, loss: isoLoss({ lambda: 0.1 }), noise_scheduler });
 */
export class OnnxModel implements DiffusionModel {
  readonly config: ModelConfig & { readonly graph: string };
  readonly parameters: readonly ParameterSpec[];
  readonly sampleShape: readonly number[];
  readonly outputChannels: number | undefined;

  private constructor(
    private readonly graph: Graph,
    private readonly sample: Value,
    private readonly timestep: Value,
    private readonly output: Value,
    trainable: (name: string, shape: readonly number[]) => boolean,
  ) {
    this.config = { _class_name: 'OnnxModel', graph: graph.name };
    this.sampleShape = fixedShape(sample.shape.slice(1));
    const channels = output.shape[1];
    this.outputChannels = typeof channels === 'number' ? channels : undefined;
    this.parameters = graph.constants.flatMap(({ name, dtype, shape, data }) => {
      const dims = fixedShape(shape);
      if (dtype !== 'float32' || !(data instanceof Float32Array) || !trainable(name, dims)) return [];
      return [{ name, shape: dims, init: (_stream, target) => target.set(data) }];
    });
  }

  /**
   * @throws {OnnxFormatError} when the bytes are no ONNX model of this kind; ops that cannot be read are listed all in
   * one error.
   */
  static fromBytes(bytes: Uint8Array, options: OnnxModelOptions = {}): OnnxModel {
    const { sample_shape, trainable = isWeight } = options;
    const graph = readOnnx(bytes, {
      inputShapes: (name, declared) => {
        // One timestep broadcasts to every batch, where a symbolic number of them does not.
        if (name === 'timestep') return declared.map(() => 1);
        return name === 'sample' && sample_shape ? ['batch_size', ...sample_shape] : declared;
      },
    });
    const named = (name: string) => graph.inputs.find((input) => input.name === name);
    const [sample, timestep, output] = [named('sample'), named('timestep'), graph.outputs[0]?.value];
    if (!sample || !timestep || !output || graph.inputs.length !== 2 || graph.outputs.length !== 1)
      throw new OnnxFormatError(
        `a diffusion model has the inputs 'sample' and 'timestep' and one output, but this one has ${graph.inputs.map(({ name }) => name).join(', ')} and ${graph.outputs.map(({ name }) => name).join(', ')}`,
      );
    if (sample.shape.slice(1).some((dim) => typeof dim === 'string'))
      throw new OnnxFormatError(
        `the input 'sample' is ${formatShape(sample.shape)}: give the lengths of its axes as sample_shape`,
      );
    return new OnnxModel(graph, sample, timestep, output, trainable);
  }

  /** See `DiffusionModel.forward`. */
  forward(sample: Value, timestep: Value, parameters: ParameterValues): Value {
    const target = sample.graph;
    const copies = new Map<Value, Value>([
      [this.sample, sample],
      [this.timestep, asDeclared(timestep, this.timestep)],
    ]);
    const copyOf = (value: Value): Value => {
      const known = copies.get(value) ?? (value.producer ? undefined : parameters.get(value.name));
      if (known) return known;
      if (!value.data) throw new GraphError(`OnnxModel: '${value.name}' is used before it is computed`);
      const copy = target.constant(value.dtype, fixedShape(value.shape), value.data);
      copies.set(value, copy);
      return copy;
    };
    for (const node of this.graph.nodes) {
      const outputs = applyOp(
        node.opType,
        node.inputs.map((input) => input && copyOf(input)),
        { attributes: node.attributes, outputCount: node.outputs.length, domain: node.domain, graph: target },
      );
      node.outputs.forEach((output, index) => {
        const copy = outputs[index];
        if (copy) copies.set(output, copy);
      });
    }
    return copyOf(this.output);
  }
}

/** The timestep in the dtype and rank the file declares: some take a scalar, some floats. */
function asDeclared(timestep: Value, declared: Value): Value {
  const typed = cast(timestep, declared.dtype);
  return declared.shape.length === 0 ? reshape(typed, []) : typed;
}

/** Unnamed constants, such as tables of frequencies, are called so by exporters. */
function isWeight(name: string, shape: readonly number[]): boolean {
  return shape.length > 0 && !/constant/i.test(name);
}
