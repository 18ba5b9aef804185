import { ExtractorNotFoundError, ExtractorWeightsError } from '../../errors.ts';
import { fileDigest, isFile, readWholeFile } from '../../files/regular-file.ts';
import { Graph, type Value } from '../../graph/graph.ts';
import { decodeOnnx, MAX_ONNX_BYTES } from '../../graph/onnx/schema.ts';
import { readTensor } from '../../graph/onnx/tensors.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { add, div, mul, sqrt, square, sub } from '../../graph/ops/elementwise.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { reduceMean, reduceSum } from '../../graph/ops/reduce.ts';
import { scalarLike } from '../../graph/registry.ts';
import { fixedShape } from '../../graph/types.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';
import { checkTensors, weightsFile } from '../extractors/convert-extractor.ts';
import type { ParameterSource } from '../extractors/networks/feature-network.ts';
import { vgg16Convolutions } from '../extractors/networks/vgg16.ts';

/** Gives the values of a tensor of a state dict. */
type Weights = (name: string) => Float32Array;

/** What images are compared at. */
export interface LpipsShape {
  /** Of the images, in pixels. */
  readonly height: number;
  readonly width: number;
  /** The side that they are resized to, at least 16: VGG16 halves it four times. */
  readonly side: number;
}

const headName = (slice: number) => `lin${slice}.model.1.weight`;

/**
 * LPIPS on VGG16 (Zhang et al. 2018) as torch-fidelity has it: inputs `first` and `second`, float32 ['batch_size', 3, height,
 * width], RGB in [-1, 1]; output `distance`, ['batch_size'].
 *
 * @param narrow divides all numbers of channels, for tests. Default 1.
 */
export function lpipsGraph(shape: LpipsShape, weights: Weights, narrow = 1): Graph {
  const graph = new Graph('lpips-vgg16');
  const parameter: ParameterSource = (name, dims) => graph.constant('float32', fixedShape(dims), weights(name), name);
  buildLpips(graph, shape, parameter, narrow);
  return graph;
}

function buildLpips(graph: Graph, shape: LpipsShape, source: ParameterSource, narrow: number): void {
  const known = new Map<string, Value>();
  // Both images go through the same weights.
  const parameter: ParameterSource = (name, dims) => {
    const value = known.get(name) ?? source(name, dims);
    known.set(name, value);
    return value;
  };
  const slices = ['first', 'second'].map((name) => {
    const images = graph.input(name, 'float32', ['batch_size', 3, shape.height, shape.width]);
    return vgg16Convolutions(narrow, resized(images, shape), parameter).map(unitLength);
  });
  const [first = [], second = []] = slices;
  const distances = first.map((features, slice) => {
    const [channels = 0] = fixedShape(features.shape.slice(1, 2));
    const head = parameter(headName(slice), [1, channels, 1, 1]);
    const difference = square(sub(features, second[slice] as Value));
    return reduceMean(reduceSum(mul(difference, head), [1]), [1, 2]);
  });
  graph.output('distance', distances.reduce(add));
}

/** Divided by their length over the channels. */
function unitLength(features: Value): Value {
  const length = sqrt(reduceSum(square(features), [1], { keepdims: true }));
  return div(features, add(length, scalarLike(length, 1e-10)));
}

/**
 * torch's `interpolate`: the mean of the area of each pixel where both sides become smaller, else bilinear. Both are
 * products with a matrix for each axis.
 */
function resized(images: Value, { height, width, side }: LpipsShape): Value {
  const rows = height > side && width > side ? areaRows : bilinearRows;
  const matrix = (length: number) => rows(length, side);
  const constant = (dims: readonly [number, number], data: Float32Array) =>
    images.graph.constant('float32', dims, data);
  const tall = height === side ? images : matmul(constant([side, height], matrix(height)), images);
  return width === side ? tall : matmul(tall, constant([width, side], transposed(matrix(width), side, width)));
}

/** [to, from]: the mean of the pixels that a new one covers at least a part of, as adaptive average pooling. */
function areaRows(from: number, to: number): Float32Array {
  const rows = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const begin = Math.floor((i * from) / to);
    const end = Math.ceil(((i + 1) * from) / to);
    rows.fill(1 / (end - begin), i * from + begin, i * from + end);
  }
  return rows;
}

/** [to, from]: pixel centres at half integers, without antialiasing. */
function bilinearRows(from: number, to: number): Float32Array {
  const rows = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const position = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const before = Math.floor(position);
    const after = Math.min(before + 1, from - 1);
    rows[i * from + before] = 1 - (position - before);
    rows[i * from + after] = (rows[i * from + after] as number) + (position - before);
  }
  return rows;
}

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(matrix, (_, at) => matrix[(at % rows) * columns + Math.floor(at / rows)] as number);
}

/** Names and shapes of the tensors of VGG16 and of the heads. */
function lpipsShapes(): Record<'vgg16' | 'heads', Map<string, readonly number[]>> {
  const graph = new Graph('lpips-vgg16');
  const shapes = { vgg16: new Map<string, readonly number[]>(), heads: new Map<string, readonly number[]>() };
  const parameter: ParameterSource = (name, dims) => {
    (name.startsWith('lin') ? shapes.heads : shapes.vgg16).set(name, dims);
    return graph.input(name, 'float32', dims);
  };
  buildLpips(graph, { height: 16, width: 16, side: 16 }, parameter, 1);
  return shapes;
}

/** The heads of LPIPS, and what they were read from. */
export interface LpipsHeads {
  readonly weights: Weights;
  /** SHA-256 in hex of the file. */
  readonly sha256: string;
}

/**
 * Reads the five heads from a .pth file of LPIPS, or from a .safetensors file of its tensors. Nothing of it is executed.
 *
 * @throws {ExtractorNotFoundError} when there is no such file. @throws {TorchFileError} or {SafetensorsError} when it is
 * damaged. @throws {ExtractorWeightsError} when its tensors are not the heads.
 */
export async function readHeads(file: string): Promise<LpipsHeads> {
  if (!(await isFile(file)))
    throw new ExtractorNotFoundError(
      `ppl_lpips_weights '${file}' is not a file: fetch https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-vgg16-lpips.pth and give its path`,
    );
  const sha256 = await fileDigest([file]);
  const shapes = lpipsShapes().heads;
  const { entries, open } = await weightsFile(file);
  checkTensors({ name: 'the heads of LPIPS on VGG16', unused: /^$/ }, shapes, entries, file);
  return { weights: valuesOf(await open([...shapes.keys()]), file), sha256 };
}

/**
 * The weights of VGG16's convolutions, from a file of `convertExtractor`, or one that it converts.
 *
 * @throws {ExtractorWeightsError} when its tensors are not those of VGG16.
 */
export async function readVgg16(file: string): Promise<Weights> {
  const shapes = lpipsShapes().vgg16;
  const { entries, open } = /\.onnx$/i.test(file) ? await onnxFile(file) : await weightsFile(file);
  checkTensors({ name: 'vgg16', unused: /^(?!features\.)/ }, shapes, entries, file);
  return valuesOf(await open([...shapes.keys()]), file);
}

async function onnxFile(file: string): ReturnType<typeof weightsFile> {
  const { graph } = decodeOnnx(await readWholeFile(file, MAX_ONNX_BYTES, ExtractorWeightsError));
  const entries = new Map<string, { dtype: 'F32'; shape: readonly number[] }>();
  const tensors = new Map<string, { read(): Float32Array<ArrayBuffer> }>();
  for (const proto of graph.initializer ?? []) {
    const { name = '' } = proto;
    if (!name.startsWith('features.')) continue;
    const { shape, data } = readTensor(proto, `initializer '${name}' of ${file}`);
    if (!(data instanceof Float32Array)) continue;
    entries.set(name, { dtype: 'F32', shape });
    tensors.set(name, { read: () => data as Float32Array<ArrayBuffer> });
  }
  return { entries, open: async () => tensors };
}

function valuesOf(tensors: Awaited<ReturnType<Awaited<ReturnType<typeof weightsFile>>['open']>>, file: string) {
  return (name: string): Float32Array => {
    const values = tensors.get(name)?.read();
    if (values instanceof Float32Array && values.every(Number.isFinite)) return values;
    throw new ExtractorWeightsError(`${file}: ${name} holds a value that is not finite`);
  };
}

/** Pairs of images, float32 [count, 3, height, width], RGB in [-1, 1]. */
export interface ImagePairs {
  readonly first: Float32Array;
  readonly second: Float32Array;
  readonly count: number;
}

/** LPIPS, loaded on a device. */
export class Lpips {
  private constructor(
    private readonly session: Session,
    private readonly shape: LpipsShape,
  ) {}

  static async create(shape: LpipsShape, weights: Weights, device: ConcreteDevice, narrow = 1): Promise<Lpips> {
    return new Lpips(await Session.create(writeOnnx(lpipsGraph(shape, weights, narrow)), device), shape);
  }

  /** The distance of each pair. */
  async distances({ first, second, count }: ImagePairs): Promise<Float32Array> {
    const dims = [count, 3, this.shape.height, this.shape.width];
    const input = (values: Float32Array) => hostTensor('float32', dims, values);
    const { distance } = await this.session.run({ first: input(first), second: input(second) });
    return float32Data(distance, 'distance').slice();
  }

  dispose(): Promise<void> {
    return this.session.release();
  }
}
