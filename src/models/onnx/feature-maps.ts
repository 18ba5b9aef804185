import { requireArray, requireObject, requireText } from '../../arguments.ts';
import { GradientError, InvalidArgumentError, OnnxFormatError } from '../../errors.ts';
import { nodesWithoutRule } from '../../graph/autodiff/gradients.ts';
import type { Graph, Value } from '../../graph/graph.ts';
import { lowerProgram } from '../../graph/onnx/lowering/lower.ts';
import { isValue, type KnownTensor, type Operand } from '../../graph/onnx/lowering/operand.ts';
import { declaredInputs } from '../../graph/onnx/read.ts';
import { decodeOnnx, type OnnxProgram } from '../../graph/onnx/schema.ts';
import { add, mul } from '../../graph/ops/elementwise.ts';
import { concat } from '../../graph/ops/shape.ts';
import { formatShape } from '../../graph/types.ts';
import type { Complete } from '../../options.ts';
import { onnxChecksum, readInitializers, readOnnxFile } from './file.ts';

/** Which features of the network are taken, and how images are made its input. */
export interface OnnxFeatureMapsOptions {
  /** Names of what the features are: outputs of the file, or of its nodes. Default: the file's outputs. */
  readonly outputs?: readonly string[] | undefined;
  /** Subtracted from each channel, in units where white is 1. Default 0.5 each: pixels are then in [-1, 1]. */
  readonly image_mean?: readonly number[] | undefined;
  /** What each channel is then divided by, above 0. Default 0.5 each. */
  readonly image_std?: readonly number[] | undefined;
}

/**
 * A network of images in an ONNX file as part of a graph through which gradients flow, for the perceptual term of
 * `autoencoderLoss`: its weights stay as they are. It takes batches of any length, float32 [batch, channels, height, width];
 * grey images are repeated where it takes three channels.
 *
 * @example
 * const extractor = await OnnxFeatureMaps.load('vgg16.onnx', { outputs: ['relu1_2', 'relu2_2'] });
 * const loss = autoencoderLoss({ perceptual: { extractor, weight: 0.1 } });
 */
export class OnnxFeatureMaps {
  /** What a run records of it: the checksum of file and weights, and the options. */
  readonly config: {
    /** Tells its records from others. */
    readonly name: 'onnx';
    readonly [option: string]: string;
  };
  private readonly constants = new WeakMap<Graph, Map<string, Value>>();

  private constructor(
    private readonly program: OnnxProgram,
    private readonly tensors: ReadonlyMap<string, KnownTensor>,
    private readonly input: ReturnType<typeof declaredInputs>[number],
    private readonly options: Complete<OnnxFeatureMapsOptions>,
    sha256: string,
  ) {
    const { outputs, image_mean, image_std } = options;
    this.config = {
      name: 'onnx',
      sha256,
      outputs: JSON.stringify(outputs),
      image_mean: JSON.stringify(image_mean),
      image_std: JSON.stringify(image_std),
    };
  }

  /**
   * @param file a model with one input; it may keep its weights in files beside it.
   * @throws {OnnxFormatError} when it cannot be read, or does not take images. @throws {InvalidArgumentError} when an option
   * is wrong.
   */
  static async load(file: string, options: OnnxFeatureMapsOptions = {}): Promise<OnnxFeatureMaps> {
    requireText('the ONNX file', file);
    requireObject('the options of OnnxFeatureMaps', options);
    const { bytes, external } = await readOnnxFile(file);
    const program = decodeOnnx(bytes);
    const [input, ...others] = declaredInputs(program.graph);
    if (!input || others.length > 0 || input.dtype !== 'float32' || input.shape.length !== 4)
      throw new OnnxFormatError(
        `${file} must have one input, float32 [batch, channels, height, width], but has ${[input, ...others].map((each) => (each ? `'${each.name}' ${each.dtype} ${formatShape(each.shape)}` : 'none')).join(', ')}`,
      );
    const outputs = options.outputs ?? (program.graph.output ?? []).map(({ name = '' }) => name);
    refuseUnknown(outputs, program, file);
    const channels = typeof input.shape[1] === 'number' ? input.shape[1] : 3;
    const half = Array.from({ length: channels }, () => 0.5);
    const { image_mean = half, image_std = half } = options;
    for (const [name, values] of Object.entries({ image_mean, image_std }))
      if (
        values.length !== channels ||
        !values.every((value) => Number.isFinite(value) && (name === 'image_mean' || value > 0))
      )
        throw new InvalidArgumentError(`${name} must be ${channels} finite numbers, but is ${JSON.stringify(values)}`);
    const { frozen } = readInitializers(program, external, () => false);
    return new OnnxFeatureMaps(program, frozen, input, { outputs, image_mean, image_std }, await onnxChecksum(file));
  }

  /**
   * Adds the network to the graph of `images`; its weights are there once, however often it is added.
   *
   * @param images [batch, channels, height, width] in [-1, 1].
   * @throws {InvalidArgumentError} when the images do not fit. @throws {OnnxFormatError} that lists the ops that are not
   * supported. @throws {GradientError} that lists those through which no gradient flows.
   */
  features(images: Value): Value[] {
    const { graph } = images;
    const { program, input, options } = this;
    const pixels = this.normalized(images);
    const known = new Map<string, Operand>([...this.constantsIn(graph), [input.name, pixels]]);
    const { outputs, origins } = lowerProgram(program, graph, known, options.outputs);
    return outputs.map((output, i) => {
      if (!isValue(output))
        throw new OnnxFormatError(`'${options.outputs[i]}' of the ONNX model does not depend on the images`);
      const without = nodesWithoutRule([pixels], output);
      if (without.length === 0) return output;
      const ops = new Set(without.map((node) => origins.get(node) ?? node.opType));
      throw new GradientError(`no gradient flows through the ONNX model: there is no rule for ${[...ops].join(', ')}`);
    });
  }

  /** (pixel - mean) / std, where (value + 1) / 2 is the pixel. */
  private normalized(images: Value): Value {
    const { image_mean, image_std } = this.options;
    const { shape } = this.input;
    const wanted = image_mean.length;
    const repeated = images.shape[1] === 1 && wanted === 3 ? concat([images, images, images], 1) : images;
    const fits = repeated.shape.slice(1).every((dim, i) => typeof shape[i + 1] === 'string' || dim === shape[i + 1]);
    if (!fits || repeated.shape[1] !== wanted)
      throw new InvalidArgumentError(
        `the ONNX model takes images of ${formatShape(shape)}, but those of the autoencoder are ${formatShape(images.shape)}: export it with dynamic axes, or for this size`,
      );
    const perChannel = (value: (channel: number) => number) =>
      images.graph.constant(
        'float32',
        [1, wanted, 1, 1],
        Float32Array.from({ length: wanted }, (_, i) => value(i)),
      );
    const scale = perChannel((i) => 0.5 / (image_std[i] ?? 1));
    const shift = perChannel((i) => (0.5 - (image_mean[i] ?? 0)) / (image_std[i] ?? 1));
    return add(mul(repeated, scale), shift);
  }

  private constantsIn(graph: Graph): Map<string, Value> {
    const known = this.constants.get(graph);
    if (known) return known;
    const added = new Map(
      [...this.tensors].map(([name, { dtype, shape, data }]) => [
        name,
        graph.constant(dtype, shape, data, `perceptual/${name}`),
      ]),
    );
    this.constants.set(graph, added);
    return added;
  }
}

/** @throws {InvalidArgumentError} when the program does not compute an output. */
function refuseUnknown(outputs: readonly string[], { graph }: OnnxProgram, file: string): void {
  requireArray('outputs', outputs);
  const computed = new Set((graph.node ?? []).flatMap(({ output = [] }) => output));
  const unknown = outputs.find((name) => !computed.has(name));
  if (outputs.length > 0 && unknown === undefined) return;
  const declared = (graph.output ?? []).map(({ name }) => `'${name}'`).join(', ');
  throw new InvalidArgumentError(
    `outputs names ${unknown === undefined ? 'nothing' : `'${unknown}'`}, which no node of ${file} computes: its own are ${declared}`,
  );
}
