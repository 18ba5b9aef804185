import { createHash } from '#platform/hash';
import { requireObject, requireText } from '../../arguments.ts';
import { GradientError, GraphError, InvalidArgumentError, OnnxFormatError } from '../../errors.ts';
import { encodeFloat16 } from '../../files/float-formats.ts';
import { nodesWithoutRule } from '../../graph/autodiff/gradients.ts';
import { Graph, type GraphNode, type Value } from '../../graph/graph.ts';
import { lowerProgram } from '../../graph/onnx/lowering/lower.ts';
import { isValue, type KnownTensor, type Operand } from '../../graph/onnx/lowering/operand.ts';
import { replaceInitializers } from '../../graph/onnx/raw-fields.ts';
import { declaredInputs } from '../../graph/onnx/read.ts';
import { decodeOnnx, MAX_ONNX_BYTES, type NodeProto, type OnnxProgram } from '../../graph/onnx/schema.ts';
import { cast } from '../../graph/ops/elementwise.ts';
import { slice } from '../../graph/ops/indexing.ts';
import { concat, reshape, unsqueeze } from '../../graph/ops/shape.ts';
import { type Dim, type DType, fixedShape, formatShape } from '../../graph/types.ts';
import type { ForwardContext } from '../../nn/context.ts';
import type { ParameterSpec, ParameterValues } from '../../nn/parameters.ts';
import type { DiffusionModel, ModelConfig, ModelInputs } from '../model.ts';
import { type OnnxFile, readInitializers, readOnnxFile, storedTypes } from './file.ts';
import { type DiffusionInputs, diffusionInputs, type InputNames } from './inputs.ts';

/** What of an ONNX file is trained, and what its inputs are. */
export interface OnnxModelOptions {
  /**
   * Which initializers of floats are trained, by name and shape. Default: all that the output depends on but scalars,
   * those whose names say `constant`, and the running statistics of BatchNormalization.
   */
  readonly trainable?: ((name: string, shape: readonly number[]) => boolean) | undefined;
  /**
   * Shape of a sample without the batch axis, such as [3, 32, 32]. Default: what the file says; needed where it leaves the
   * axes open.
   */
  readonly sample_shape?: readonly number[] | undefined;
  /** The names of the inputs, where neither names nor shapes tell them apart; default: they are found. */
  readonly input_names?: Pick<InputNames, 'sample' | 'timestep'> | undefined;
}

export interface OnnxModelConfig extends ModelConfig {
  /** The class; its config is only written, since the ONNX file is the model. */
  readonly _class_name: 'OnnxModel';
  /** The name of the graph in the file. */
  readonly graph: string;
  /** Shape of one sample without the batch axis, such as [3, 32, 32]. */
  readonly sample_shape: readonly number[];
  /** SHA-256 of the file the model was read from, and of its external data. */
  readonly source_sha256: string;
  /** The names of the inputs, where the option gave them; default: they are found. */
  readonly input_names?: Pick<InputNames, 'sample' | 'timestep'> | undefined;
}

type DeclaredInput = ReturnType<typeof declaredInputs>[number];

/** How a file is run for a batch in which every sample has its own timestep. */
interface CallSignature {
  readonly program: OnnxProgram;
  /** The samples of one run of the program; undefined for any number. */
  readonly samples: number | undefined;
}

/** Numbers of samples that no axis of a model has, so that a broadcast by accident shows. */
const PROBES = [11, 13];

/**
 * A diffusion model read from an ONNX file, with a sample and a timestep as inputs, as a model that can be trained: its
 * initializers are the parameters, under their names, its nodes the forward pass. Files of torch.onnx.export and of
 * optimum can be read, opsets 9 to 21. Weights in float16 are trained, and everything computed, in float32; written
 * back they are float16 again.
 *
 * The output is `out_sample`, or else the first; further outputs are left alone. A file that takes one timestep for
 * the batch, or a fixed batch, is run for each sample, or each batch of that size, where it does not work for several.
 *
 * @example
 * const model = await OnnxModel.fromFile('unet.onnx');
 * const trainer = new Trainer({ model, args, train_dataset, loss: isoLoss({ lambda: 0.1 }), noise_scheduler });
 */
export class OnnxModel implements DiffusionModel {
  readonly config: OnnxModelConfig;
  /** What a file computes in float16 is computed in float32, and its constants are float32. */
  readonly computesInFloat16 = false;
  readonly parameters: readonly ParameterSpec[];
  readonly sampleShape: readonly number[];
  readonly outputChannels: number | undefined;
  private readonly stored: ReadonlyMap<string, DType>;
  private readonly frozen: ReadonlyMap<string, KnownTensor>;
  private readonly inputs: DiffusionInputs<DeclaredInput>;
  private readonly output: string;
  private readonly signature: CallSignature;

  private constructor(
    private readonly file: OnnxFile,
    { sample_shape, trainable, input_names }: OnnxModelOptions,
  ) {
    const program = decodeOnnx(file.bytes);
    this.inputs = inputsOf(program, input_names);
    this.output = outputOf(program);
    const { sample } = this.inputs;
    this.sampleShape = fixedSampleShape(sample, sample_shape);
    const { trained, frozen } = readInitializers(program, file.external, trainable);
    this.parameters = [...trained].map(([name, { shape, data }]) => ({
      name,
      shape,
      init: (_stream, target) => target.set(data),
    }));
    this.stored = storedTypes(program);
    this.frozen = frozen;
    this.config = {
      _class_name: 'OnnxModel',
      graph: program.graph.name ?? '',
      sample_shape: this.sampleShape,
      source_sha256: contentDigest(file),
      ...(input_names ? { input_names } : {}),
    };
    const found = this.findSignature(program, sample.shape[0]);
    this.signature = found.signature;
    const channels = found.outputShape[1];
    this.outputChannels = typeof channels === 'number' && channels !== this.sampleShape[0] ? channels : undefined;
  }

  /**
   * @throws {OnnxFormatError} when the bytes are not an ONNX model of this kind; one error lists all that cannot be read.
   * @throws {GradientError} that lists all ops without a gradient rule between the parameters and the output.
   */
  static fromBytes(bytes: Uint8Array, options: OnnxModelOptions = {}): OnnxModel {
    return new OnnxModel({ bytes, external: new Map() }, options);
  }

  /** `fromBytes` of a file, which may keep its weights in further files beside it (`model.onnx_data`). */
  static async fromFile(file: string, options: OnnxModelOptions = {}): Promise<OnnxModel> {
    requireText('the ONNX file', file);
    requireObject('the options of an ONNX model', options);
    const read = await readOnnxFile(file);
    const total = [...read.external.values()].reduce((sum, { length }) => sum + length, read.bytes.length);
    if (total > MAX_ONNX_BYTES)
      throw new OnnxFormatError(
        `${file} has ${total} bytes with its external data: it can be used for generation, but a trained model is written as one file, which holds ${MAX_ONNX_BYTES}`,
      );
    return new OnnxModel(read, options);
  }

  /** See `DiffusionModel.forward`. */
  forward({ sample, timestep }: ModelInputs, context: ForwardContext): Value {
    const parameters = new Map(this.parameters.map(({ name }) => [name, context.parameter(name)]));
    const { samples } = this.signature;
    const [batch] = sample.shape;
    if (samples === undefined || samples === batch)
      return this.run(this.signature, sample, timestep, parameters).output;
    if (typeof batch !== 'number' || batch % samples !== 0)
      throw new InvalidArgumentError(
        `the ONNX model takes batches of ${samples}, but the batch has ${batch}, which is not a multiple: change per_device_train_batch_size, or export the model with a dynamic batch axis`,
      );
    const outputs = Array.from({ length: batch / samples }, (_, i) => {
      const range = [i * samples, (i + 1) * samples, 0] as const;
      const times = timestep.shape[0] === 1 ? timestep : slice(timestep, ...range);
      return this.run(this.signature, slice(sample, ...range), times, parameters).output;
    });
    return concat(outputs, 0);
  }

  /** See `DiffusionModel.toOnnx`: the file that was read, every byte of it but the trained initializers. */
  toOnnx(weights: ReadonlyMap<string, Float32Array>): Uint8Array {
    return replaceInitializers(this.file.bytes, (name) => {
      const trained = weights.get(name);
      if (!trained) return this.file.external.get(name);
      const values = this.stored.get(name) === 'float16' ? encodeFloat16(trained) : trained;
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    });
  }

  /** Tries to run the file for many samples at once, else for as many as it takes. */
  private findSignature(
    program: OnnxProgram,
    declaredBatch: Dim | undefined,
  ): { signature: CallSignature; outputShape: Shape } {
    const { name, shape } = this.inputs.timestep;
    const vector = shape.length === 0 ? withTimestepVector(program, name) : program;
    if (typeof declaredBatch === 'number' && declaredBatch > 1) {
      const signature = { program: vector, samples: declaredBatch };
      return { signature, outputShape: this.probe(signature, declaredBatch) };
    }
    if (declaredBatch !== 1) {
      try {
        const signature = { program: vector, samples: undefined };
        const [first] = PROBES.map((count) => this.probe(signature, count));
        return { signature, outputShape: first ?? [] };
      } catch (error) {
        if (error instanceof GradientError || !(error instanceof GraphError || error instanceof OnnxFormatError))
          throw error;
      }
    }
    const signature = { program, samples: 1 };
    return { signature, outputShape: this.probe(signature, 1) };
  }

  /** @throws {OnnxFormatError | GradientError} where the program cannot be run, or trained, with so many samples. */
  private probe(signature: CallSignature, count: number): Shape {
    const graph = new Graph('probe');
    const sample = graph.input('sample', 'float32', [count, ...this.sampleShape]);
    const timestep = graph.input('timestep', 'int32', [count]);
    const parameters = new Map(
      this.parameters.map(({ name, shape }) => [name, graph.input(`parameter/${name}`, 'float32', shape)] as const),
    );
    const { output, origins } = this.run(signature, sample, timestep, parameters);
    const expected = [count, ...this.sampleShape];
    const fits =
      output.shape.length === expected.length && output.shape.every((dim, i) => i === 1 || dim === expected[i]);
    if (!fits || output.dtype !== 'float32')
      throw new OnnxFormatError(
        `the output '${this.output}' is ${output.dtype} ${formatShape(output.shape)} for samples of ${formatShape(expected)}`,
      );
    const without = nodesWithoutRule([...parameters.values()], output);
    if (without.length > 0)
      throw new GradientError(
        `the ONNX model cannot be trained: there is no gradient rule for ${[...new Set(without.map((node) => origins.get(node) ?? node.opType))].join(', ')}. Freeze what is behind it with the option trainable, or replace the op`,
      );
    return output.shape;
  }

  private run(
    signature: CallSignature,
    sample: Value,
    timestep: Value,
    parameters: ParameterValues,
  ): { output: Value; origins: ReadonlyMap<GraphNode, string> } {
    const known = new Map<string, Operand>([...this.frozen, ...parameters]);
    known.set(this.inputs.sample.name, sample);
    known.set(this.inputs.timestep.name, this.asDeclared(timestep, signature));
    const { outputs, origins } = lowerProgram(signature.program, sample.graph, known, [this.output]);
    const [output] = outputs;
    if (!output || !isValue(output))
      throw new OnnxFormatError(`the output '${this.output}' does not depend on the sample`);
    return { output, origins };
  }

  /** The timestep in the type and rank the file declares; float16 is computed in float32. */
  private asDeclared(timestep: Value, { samples }: CallSignature): Value {
    const { dtype, shape } = this.inputs.timestep;
    const typed = cast(timestep, dtype === 'float16' ? 'float32' : dtype);
    if (shape.length === 2) return unsqueeze(typed, [1]);
    return shape.length === 0 && samples === 1 ? reshape(typed, []) : typed;
  }
}

type Shape = readonly Dim[];

/** @throws {OnnxFormatError} unless the inputs are a sample and a timestep. */
function inputsOf({ graph }: OnnxProgram, names: InputNames | undefined): DiffusionInputs<DeclaredInput> {
  const inputs = diffusionInputs(declaredInputs(graph), names);
  for (const [what, input] of [
    ['class labels', inputs.class_labels],
    ['a condition', inputs.condition],
  ] as const)
    if (input)
      throw new OnnxFormatError(
        `the ONNX model takes ${what}, '${input.name}': a file with such an input can be drawn from, but not be trained`,
      );
  return inputs;
}

/** @throws {OnnxFormatError} when there is no output. */
function outputOf({ graph }: OnnxProgram): string {
  const [first, ...others] = (graph.output ?? []).map(({ name = '' }) => name);
  if (first === undefined) throw new OnnxFormatError('the ONNX model has no output');
  return others.includes('out_sample') ? 'out_sample' : first;
}

function fixedSampleShape(
  { name, shape: declared }: Pick<DeclaredInput, 'name' | 'shape'>,
  wanted: readonly number[] | undefined,
): number[] {
  const shape = wanted ?? declared.slice(1);
  const agrees =
    shape.length === declared.length - 1 &&
    declared.slice(1).every((dim, axis) => typeof dim === 'string' || dim === shape[axis]);
  if (!agrees)
    throw new OnnxFormatError(
      `the input '${name}' is ${formatShape(declared)} in the ONNX model, which does not allow samples of ${formatShape(shape)}`,
    );
  if (shape.every((dim) => typeof dim === 'number' && dim > 0)) return fixedShape(shape);
  throw new OnnxFormatError(
    `the input '${name}' is ${formatShape(declared)}: give the lengths of its axes as sample_shape`,
  );
}

/** SHA-256 in hex of all that the model consists of, frozen weights too. */
function contentDigest({ bytes, external }: OnnxFile): string {
  const hash = createHash('sha256').update(bytes);
  for (const data of external.values()) hash.update(data);
  return hash.digest('hex');
}

/**
 * A program whose timestep is one scalar for the batch, as one that takes a vector of one for each sample: the nodes that
 * make a vector of one element of the scalar then have nothing to do. Whether the rest works with a vector has to be
 * tried.
 */
function withTimestepVector({ graph, opset }: OnnxProgram, timestep: string): OnnxProgram {
  const scalars = new Set([timestep]);
  const node = (graph.node ?? []).map((candidate): NodeProto => {
    const [data = ''] = candidate.input ?? [];
    if (!scalars.has(data)) return candidate;
    const { opType = '', output = [] } = candidate;
    if (opType === 'Cast' || opType === 'Identity') for (const name of output) scalars.add(name);
    const makesVector = opType === 'Unsqueeze' || opType === 'Reshape';
    return makesVector ? { ...candidate, opType: 'Identity', input: [data], attribute: [] } : candidate;
  });
  return { opset, graph: { ...graph, node } };
}
