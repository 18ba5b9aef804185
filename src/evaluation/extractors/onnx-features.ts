import { basename } from '#platform/path';
import { openInThread } from '#runtime/worker';
import { hasThreads } from '#threads/scripts';
import { requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { requireInteger } from '../../metrics/metric.ts';
import { onnxChecksum } from '../../models/onnx/file.ts';
import { type ConcreteDevice, type Device, resolveDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';
import type { OpenSession } from '../../runtime/worker-session.ts';
import { type FeatureModel, ModelFeatures, vectorLength } from './feature-extractor.ts';
import { type ImageTensorOptions, imageTensor, type ResizeRule } from './image-tensor.ts';

/** Which ONNX file gives the features, and how images are made its input. */
export interface OnnxFeaturesOptions {
  /** Path of the ONNX file, or its bytes with a name to report. */
  readonly model:
    | string
    | {
        /** What reports call it. */
        readonly name: string;
        /** The whole file. */
        readonly bytes: Uint8Array;
      };
  /**
   * The output that holds the features, (n, dims); further axes must have length 1. Default: the model's only output,
   * or, of several, '2048' or 'fc2_relu', which FID and precision and recall compare.
   */
  readonly output_name?: string | undefined;
  /** The input that takes the images. Default: the model's only input. */
  readonly input_name?: string | undefined;
  /** What images are resized to, in pixels, 1 to 4,096 each. Default: what the model's input declares. */
  readonly image_size?:
    | {
        /** In pixels. */
        height: number;
        /** In pixels. */
        width: number;
      }
    | undefined;
  /** Order of the input's axes. Default: what the model's input declares, else 'NCHW'. */
  readonly layout?: 'NCHW' | 'NHWC' | undefined;
  /**
   * How images are resized. Default 'half-pixel': bilinear without antialiasing, pixel centres at half integers, as
   * PyTorch's `interpolate(mode='bilinear', align_corners=False)`, which pytorch-fid uses. 'asymmetric': the same with
   * pixel i at i times the scale, as TensorFlow 1's `resize_bilinear`, which the original FID code and torch-fidelity
   * follow. 'clean': Pillow's antialiased bicubic filter in float32, limited to the range of pixels, as clean-fid.
   * 'bicubic': the same filter, rounded to bytes, as Pillow resizes a photo.
   */
  readonly resize?: ResizeRule | undefined;
  /** Whether the largest square in the middle is cut out first. Default false: the sides are scaled independently. */
  readonly center_crop?: boolean | undefined;
  /** Whether the output holds tokens, (n, tokens, dims), of which the first, the class token, is taken. Default false. */
  readonly class_token?: boolean | undefined;
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
  /** Which GPU the device `cuda` is, from 0; default: as for `pipeline()`. */
  readonly device_id?: number | undefined;
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
  /** Reads the model and makes a session of it. */
  static async load(options: OnnxFeaturesOptions): Promise<OnnxFeatures> {
    requireObject('the options of OnnxFeatures', options);
    if (typeof options.model !== 'string') requireObject('model, a path or bytes with a name,', options.model);
    const { model, batch_size = 32, device_id } = options;
    requireInteger('batch_size', batch_size, 1);
    checkTensorOptions(options);
    const [name, source] = typeof model === 'string' ? [model, model] : [model.name, model.bytes];
    const checksum = await onnxChecksum(source);
    const session = await openSession(source, await resolveDevice(options.device ?? 'cpu', { device_id }));
    try {
      const input = chosen('input', session.inputNames, options.input_name, name);
      const usual = USUAL_OUTPUTS.find((usualName) => session.outputNames.includes(usualName));
      const output = chosen('output', session.outputNames, options.output_name ?? usual, name);
      const tensorOptions = tensorOptionsFor(session, input, options, name);
      const loaded = featureModel(session, input, output, tensorOptions, options.class_token ?? false);
      const { height, width } = tensorOptions;
      const black = { data: new Uint8Array(height * width), height, width, channels: 1 };
      const { dims } = await loaded.run([black]);
      const label = `${basename(name)}:${output}${resizeLabel(options)}`;
      return new OnnxFeatures(label, checksum, dims, loaded, batch_size);
    } catch (error) {
      await session.release();
      throw error;
    }
  }
}

/** On the cpu in a thread of its own, where the next images are decoded meanwhile. */
function openSession(model: string | Uint8Array, device: ConcreteDevice): Promise<OpenSession> {
  if (device === 'cpu' && hasThreads) return openInThread(model);
  // Exported networks compute shapes, which belong on the cpu.
  return Session.create(model, device, { forbidFallback: false });
}

/** Features of images that were resized by other rules do not compare. */
function resizeLabel({ resize = 'half-pixel', center_crop }: OnnxFeaturesOptions): string {
  const notes = [resize === 'half-pixel' ? [] : `${resize} resize`, center_crop ? 'center crop' : []].flat();
  return notes.length > 0 ? ` (${notes.join(', ')})` : '';
}

function featureModel(
  session: OpenSession,
  input: string,
  output: string,
  options: ImageTensorOptions,
  classToken: boolean,
): FeatureModel {
  return {
    async run(images) {
      const { height, width, layout } = options;
      const count = images.length;
      const shape = layout === 'NCHW' ? [count, 3, height, width] : [count, height, width, 3];
      const pixels = hostTensor('float32', shape, imageTensor(images, options));
      const { [output]: tensor } = await session.run({ [input]: pixels }, { [output]: null });
      const data = float32Data(tensor, output);
      const dims = tensor?.dims ?? [];
      if (classToken && dims.length === 3) return classTokens(data, dims);
      return { data, dims: vectorLength(dims, count, `output '${output}'`) };
    },
    dispose: () => session.release(),
  };
}

/** The first of the tokens of each image. */
function classTokens(data: Float32Array, [count = 0, tokens = 0, dims = 0]: readonly number[]) {
  const first = new Float32Array(count * dims);
  for (let i = 0; i < count; i++) first.set(data.subarray(i * tokens * dims, (i * tokens + 1) * dims), i * dims);
  return { data: first, dims: vectorLength([count, dims], count, 'the class token') };
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
  session: OpenSession,
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
  const { image_mean = HALF, image_std = HALF, resize, center_crop } = options;
  return { ...size, layout, mean: image_mean, std: image_std, resize, center_crop };
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
