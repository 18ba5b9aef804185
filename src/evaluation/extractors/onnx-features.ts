import { basename } from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { requireInteger } from '../../metrics/metric.ts';
import { onnxChecksum } from '../../models/onnx/file.ts';
import { requireObject } from '../../options.ts';
import { type Device, resolveDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';
import { type FeatureImage, type FeatureModel, ModelFeatures, vectorLength } from './feature-extractor.ts';

export interface OnnxFeaturesOptions {
  /** Path of the ONNX file, or its bytes with a name to report. */
  readonly model: string | { readonly name: string; readonly bytes: Uint8Array };
  /**
   * The output that holds the features, (n, dims); further axes must have length 1. Default: the model's only output,
   * or, of several, '2048' or 'fc2_relu', which FID and precision and recall compare.
   */
  readonly output_name?: string | undefined;
  /** The input that takes the images. Default: the model's only input. */
  readonly input_name?: string | undefined;
  /** What images are resized to, in pixels, 1 to 4,096 each. Default: what the model's input declares. */
  readonly image_size?: { height: number; width: number } | undefined;
  /** Order of the input's axes. Default: what the model's input declares, else 'NCHW'. */
  readonly layout?: 'NCHW' | 'NHWC' | undefined;
  /**
   * Where the pixels of the resized image lie in the original. Default 'half-pixel': centres at half integers, as
   * PyTorch's `interpolate(mode='bilinear', align_corners=False)`, which pytorch-fid uses. 'asymmetric': pixel i at i times
   * the scale, as TensorFlow 1's `resize_bilinear`, which the original FID code and torch-fidelity follow.
   */
  readonly resize?: 'half-pixel' | 'asymmetric' | undefined;
  /**
   * Subtracted from each channel, in units where white is 1, as in `preprocessor_config.json`. Default 0.5 each: with the
   * default `image_std`, pixels are in [-1, 1], as the FID's Inception wants them.
   */
  readonly image_mean?: readonly [number, number, number] | undefined;
  /** What each channel is then divided by, above 0. Default 0.5 each. */
  readonly image_std?: readonly [number, number, number] | undefined;
  /** Images per run of the model, an integer of at least 1. Default 32. */
  readonly batch_size?: number | undefined;
  /** Where the model runs. Default 'cpu'. */
  readonly device?: Device | undefined;
}

/**
 * Features of any ONNX model of images: `output_name` of the model, run on images scaled as the options say.
 *
 * @throws {FileFormatError} when the file cannot be read. @throws {OnnxFormatError} when onnxruntime refuses it.
 * @throws {InvalidArgumentError} for unknown names, wrong sizes, or an output that is not one vector an image.
 *
 * @example
 * const inception = await OnnxFeatures.load({
 *   model: 'inception.onnx', output_name: '2048',
 * });
 */
export class OnnxFeatures extends ModelFeatures {
  static async load(options: OnnxFeaturesOptions): Promise<OnnxFeatures> {
    requireObject('the options of OnnxFeatures', options);
    if (typeof options.model !== 'string') requireObject('model, a path or bytes with a name,', options.model);
    const { model, batch_size = 32 } = options;
    requireInteger('batch_size', batch_size, 1);
    checkTensorOptions(options);
    const [name, source] = typeof model === 'string' ? [model, model] : [model.name, model.bytes];
    const checksum = await onnxChecksum(source);
    const session = await Session.create(source, await resolveDevice(options.device ?? 'cpu'));
    try {
      const input = chosen('input', session.inputNames, options.input_name, name);
      const usual = USUAL_OUTPUTS.find((usualName) => session.outputNames.includes(usualName));
      const output = chosen('output', session.outputNames, options.output_name ?? usual, name);
      const tensorOptions = tensorOptionsFor(session, input, options, name);
      const loaded = featureModel(session, input, output, tensorOptions);
      const { height, width } = tensorOptions;
      const black = { data: new Uint8Array(height * width), height, width, channels: 1 };
      const { dims } = await loaded.run([black]);
      const label = `${basename(name)}:${output}${options.resize === 'asymmetric' ? ' (asymmetric resize)' : ''}`;
      return new OnnxFeatures(label, checksum, dims, loaded, batch_size);
    } catch (error) {
      await session.release();
      throw error;
    }
  }
}

function featureModel(session: Session, input: string, output: string, options: ImageTensorOptions): FeatureModel {
  return {
    async run(images) {
      const { height, width, layout } = options;
      const count = images.length;
      const shape = layout === 'NCHW' ? [count, 3, height, width] : [count, height, width, 3];
      const pixels = hostTensor('float32', shape, imageTensor(images, options));
      const { [output]: tensor } = await session.run({ [input]: pixels }, { [output]: null });
      const data = float32Data(tensor, output);
      return { data, dims: vectorLength(tensor?.dims ?? [], count, `output '${output}'`) };
    },
    dispose: () => session.release(),
  };
}

function chosen(kind: 'input' | 'output', names: readonly string[], wanted: string | undefined, model: string): string {
  const [only] = names;
  if (wanted === undefined && names.length === 1 && only !== undefined) return only;
  if (wanted !== undefined && names.includes(wanted)) return wanted;
  throw new InvalidArgumentError(
    `${model} ${wanted === undefined ? `has several ${kind}s` : `has no ${kind} '${wanted}'`}; set ${kind}_name to one of ${names.join(', ')}.`,
  );
}

/** Layers of the models that `convertExtractor` writes. */
const USUAL_OUTPUTS = ['2048', 'fc2_relu'];
const HALF = [0.5, 0.5, 0.5] as const;

/** What is not given is taken from the shape that the input declares. */
function tensorOptionsFor(
  session: Session,
  input: string,
  options: OnnxFeaturesOptions,
  model: string,
): ImageTensorOptions {
  const shape = session.inputType(input)?.shape ?? [];
  const layout = options.layout ?? (shape[3] === 3 && shape[1] !== 3 ? 'NHWC' : 'NCHW');
  const [height, width] = layout === 'NCHW' ? shape.slice(2) : shape.slice(1);
  const declared = typeof height === 'number' && typeof width === 'number' && { height, width };
  const size = options.image_size ?? declared;
  if (!size || size.height < 1 || size.width < 1)
    throw new InvalidArgumentError(
      `${model} takes images of any size, (${shape.join(', ')}); set image_size to the one it was trained with.`,
    );
  const { image_mean = HALF, image_std = HALF, resize } = options;
  return { ...size, layout, mean: image_mean, std: image_std, resize };
}

function checkTensorOptions({ image_size, image_mean = HALF, image_std = HALF }: OnnxFeaturesOptions): void {
  for (const [side, size] of Object.entries(image_size ?? {})) {
    if (Number.isInteger(size) && size >= 1 && size <= 4096) continue;
    throw new InvalidArgumentError(`image_size.${side} is ${size}; it must be an integer from 1 to 4096.`);
  }
  for (const [name, values] of Object.entries({ image_mean, image_std })) {
    const valid = values.length === 3 && values.every((value) => Number.isFinite(value));
    if (valid && !(name === 'image_std' && values.some((value) => value <= 0))) continue;
    throw new InvalidArgumentError(`${name} is [${values.join(', ')}]; it must be three numbers, above 0 for a std.`);
  }
}

interface ImageTensorOptions {
  readonly height: number;
  readonly width: number;
  readonly layout: 'NCHW' | 'NHWC';
  /** Of each of the three channels, in units where white is 1. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /** See `OnnxFeaturesOptions`. */
  readonly resize?: 'half-pixel' | 'asymmetric' | undefined;
}

/**
 * RGB images as one float32 tensor, (pixel / 255 - mean) / std. Grey images are repeated in all channels. Images of
 * another size are resized bilinearly, without antialiasing.
 */
export function imageTensor(images: readonly FeatureImage[], options: ImageTensorOptions): Float32Array {
  const { height, width } = options;
  const tensor = new Float32Array(images.length * 3 * height * width);
  images.forEach((image, n) => {
    const start = n * 3 * height * width;
    writeResized(image, tensor.subarray(start, start + 3 * height * width), options);
  });
  return tensor;
}

function writeResized(image: FeatureImage, target: Float32Array, options: ImageTensorOptions): void {
  const { height, width, layout, mean, std, resize = 'half-pixel' } = options;
  const { data, channels } = image;
  const [pixelStride, channelStride] = layout === 'NCHW' ? [1, height * width] : [3, 1];
  const rows = samplePositions(image.height, height, resize, image.width * channels);
  const columns = samplePositions(image.width, width, resize, channels);
  for (let c = 0; c < 3; c++) {
    const source = channels === 1 ? 0 : c;
    const channelMean = mean[c] as number;
    const channelStd = std[c] as number;
    for (let y = 0; y < height; y++) {
      const top = (rows.before[y] as number) + source;
      const bottom = (rows.after[y] as number) + source;
      const down = rows.share[y] as number;
      let at = c * channelStride + y * width * pixelStride;
      for (let x = 0; x < width; x++, at += pixelStride) {
        const left = columns.before[x] as number;
        const right = columns.after[x] as number;
        const across = columns.share[x] as number;
        const upperLeft = data[top + left] as number;
        const lowerLeft = data[bottom + left] as number;
        const upper = upperLeft + ((data[top + right] as number) - upperLeft) * across;
        const lower = lowerLeft + ((data[bottom + right] as number) - lowerLeft) * across;
        target[at] = ((upper + (lower - upper) * down) / 255 - channelMean) / channelStd;
      }
    }
  }
}

/**
 * For each target pixel of an axis, the offsets of the source pixels before and after it, `stride` apart, and how far
 * it is on its way from one to the other. Before the first pixel it stays on it, and after the last one too.
 */
function samplePositions(sourceSize: number, targetSize: number, resize: 'half-pixel' | 'asymmetric', stride: number) {
  const centre = resize === 'half-pixel' ? 0.5 : 0;
  const before = new Int32Array(targetSize);
  const after = new Int32Array(targetSize);
  const share = new Float64Array(targetSize);
  for (let i = 0; i < targetSize; i++) {
    const position = Math.max(0, ((i + centre) * sourceSize) / targetSize - centre);
    const index = Math.floor(position);
    before[i] = index * stride;
    after[i] = Math.min(index + 1, sourceSize - 1) * stride;
    share[i] = position - index;
  }
  return { before, after, share };
}
