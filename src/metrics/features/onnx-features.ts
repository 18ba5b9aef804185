import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { FileFormatError, InvalidArgumentError } from '../../errors.ts';
import { type Device, resolveDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';
import { checkImages, type FeatureExtractor, type FeatureImage } from './feature-extractor.ts';
import { type ImageTensorOptions, imageTensor } from './image-tensor.ts';

export interface OnnxFeaturesOptions {
  /** Path of the ONNX file. */
  model: string;
  /** The output that holds the features, (n, dims); further axes must have length 1. */
  output_name: string;
  /** Default: the model's only input. */
  input_name?: string;
  /** What images are resized to, in pixels. */
  image_size: { height: number; width: number };
  /** Default `NCHW`. */
  layout?: 'NCHW' | 'NHWC';
  /** As in `preprocessor_config.json`; default 0.5 each, so that pixels are in [-1, 1] as the FID Inception wants. */
  image_mean?: readonly [number, number, number];
  image_std?: readonly [number, number, number];
  /** Images of one run of the model, default 32. */
  batch_size?: number;
  /** Default `cpu`. */
  device?: Device;
}

/**
 * Features of any ONNX model of images: `output_name` of the model, run on images scaled as the options say.
 *
 * @throws {FileFormatError} when the file cannot be read. @throws {OnnxFormatError} when onnxruntime refuses it.
 * @throws {InvalidArgumentError} for unknown names, wrong sizes, or an output that is not one vector an image.
 *
 * @example
 * const inception = await OnnxFeatures.load({
 *   model: 'inception.onnx', output_name: 'pool3', image_size: { height: 299, width: 299 },
 * });
 */
export class OnnxFeatures implements FeatureExtractor {
  private constructor(
    readonly name: string,
    readonly checksum: string,
    readonly dims: number,
    private readonly runner: FeatureRunner,
    private readonly batchSize: number,
  ) {}

  static async load(options: OnnxFeaturesOptions): Promise<OnnxFeatures> {
    const { model, output_name, batch_size = 32 } = options;
    const tensorOptions = checkedTensorOptions(options);
    if (!Number.isInteger(batch_size) || batch_size < 1) {
      throw new InvalidArgumentError(`batch_size is ${batch_size}; it must be an integer of at least 1.`);
    }
    const checksum = await fileChecksum([model]);
    const session = await Session.create(model, await resolveDevice(options.device ?? 'cpu'));
    try {
      const input = chosenInput(session, options.input_name, model);
      if (!session.outputNames.includes(output_name)) {
        throw new InvalidArgumentError(
          `${model} has no output '${output_name}'; its outputs are ${session.outputNames.join(', ')}.`,
        );
      }
      const runner = new FeatureRunner(session, input, output_name, tensorOptions);
      const { height, width } = tensorOptions;
      const black = { data: new Uint8Array(height * width), height, width, channels: 1 };
      const { dims } = await runner.run([black]);
      return new OnnxFeatures(`${basename(model)}:${output_name}`, checksum, dims, runner, batch_size);
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  async extract(images: readonly FeatureImage[]): Promise<Float32Array> {
    checkImages(images);
    const features = new Float32Array(images.length * this.dims);
    for (let start = 0; start < images.length; start += this.batchSize) {
      const { data } = await this.runner.run(images.slice(start, start + this.batchSize));
      features.set(data, start * this.dims);
    }
    return features;
  }

  dispose(): Promise<void> {
    return this.runner.session.release();
  }
}

class FeatureRunner {
  constructor(
    readonly session: Session,
    private readonly input: string,
    private readonly output: string,
    private readonly tensorOptions: ImageTensorOptions,
  ) {}

  async run(images: readonly FeatureImage[]): Promise<{ data: Float32Array; dims: number }> {
    const { height, width, layout } = this.tensorOptions;
    const count = images.length;
    const shape = layout === 'NCHW' ? [count, 3, height, width] : [count, height, width, 3];
    const pixels = hostTensor('float32', shape, imageTensor(images, this.tensorOptions));
    const outputs = await this.session.run({ [this.input]: pixels }, { [this.output]: null });
    const tensor = outputs[this.output];
    const data = float32Data(tensor, this.output);
    return { data, dims: vectorLength(tensor?.dims ?? [], count, `output '${this.output}'`) };
  }
}

/** The d of a shape (n, d, 1, ...). @throws {InvalidArgumentError} for any other shape. */
export function vectorLength(shape: readonly number[], count: number, what: string): number {
  const [n, dims, ...rest] = shape;
  if (n === count && dims !== undefined && dims >= 1 && rest.every((length) => length === 1)) return dims;
  throw new InvalidArgumentError(
    `${what} has the shape (${shape.join(', ')}) for ${count} images; features need (${count}, dims). Choose an output after the pooling.`,
  );
}

/** SHA-256 in hex of the contents of files, one after another. @throws {FileFormatError} when one cannot be read. */
export async function fileChecksum(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    try {
      for await (const chunk of createReadStream(path)) hash.update(chunk);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new FileFormatError(`the model ${path} cannot be read: ${reason}`, { cause });
    }
  }
  return hash.digest('hex');
}

function chosenInput(session: Session, wanted: string | undefined, model: string): string {
  const { inputNames } = session;
  const [only] = inputNames;
  if (wanted === undefined && inputNames.length === 1 && only !== undefined) return only;
  if (wanted !== undefined && inputNames.includes(wanted)) return wanted;
  throw new InvalidArgumentError(
    `${model} ${wanted === undefined ? 'has several inputs' : `has no input '${wanted}'`}; set input_name to one of ${inputNames.join(', ')}.`,
  );
}

function checkedTensorOptions(options: OnnxFeaturesOptions): ImageTensorOptions {
  const { image_size, layout = 'NCHW', image_mean = [0.5, 0.5, 0.5], image_std = [0.5, 0.5, 0.5] } = options;
  for (const [side, size] of Object.entries(image_size)) {
    if (Number.isInteger(size) && size >= 1 && size <= 4096) continue;
    throw new InvalidArgumentError(`image_size.${side} is ${size}; it must be an integer from 1 to 4096.`);
  }
  for (const [name, values] of Object.entries({ image_mean, image_std })) {
    const valid = values.length === 3 && values.every((value) => Number.isFinite(value));
    if (valid && !(name === 'image_std' && values.some((value) => value <= 0))) continue;
    throw new InvalidArgumentError(
      `${name} is [${values.join(', ')}]; it must be three numbers, above 0 for a std.`,
    );
  }
  return { ...image_size, layout, mean: image_mean, std: image_std };
}
