import { basename } from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { onnxChecksum } from '../../models/onnx-file.ts';
import { type Device, resolveDevice } from '../../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../runtime/session.ts';
import type { FeatureExtractor, FeatureImage } from './feature-extractor.ts';
import { type ImageTensorOptions, imageTensor } from './image-tensor.ts';
import { checkBatchSize, extractInBatches, type FeatureModel, vectorLength } from './model-features.ts';

export interface OnnxFeaturesOptions {
  /** Path of the ONNX file, or its bytes with a name to report. */
  model: string | { readonly name: string; readonly bytes: Uint8Array };
  /**
   * The output that holds the features, (n, dims); further axes must have length 1. Default: the model's only output,
   * or of several the one that FID or precision and recall are taken of, '2048' or 'fc2_relu'.
   */
  output_name?: string | undefined;
  /** Default: the model's only input. */
  input_name?: string | undefined;
  /** What images are resized to, in pixels. Default: what the model's input declares. */
  image_size?: { height: number; width: number } | undefined;
  /** Default: what the model's input declares, else `NCHW`. */
  layout?: 'NCHW' | 'NHWC' | undefined;
  /** Default `half-pixel`, as PyTorch; see `ImageTensorOptions`. */
  resize?: 'half-pixel' | 'asymmetric' | undefined;
  /** As in `preprocessor_config.json`; default 0.5 each, so that pixels are in [-1, 1] as the FID Inception wants. */
  image_mean?: readonly [number, number, number] | undefined;
  image_std?: readonly [number, number, number] | undefined;
  /** Images of one run of the model, default 32. */
  batch_size?: number | undefined;
  /** Default `cpu`. */
  device?: Device | undefined;
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
export class OnnxFeatures implements FeatureExtractor {
  private constructor(
    readonly name: string,
    readonly checksum: string,
    readonly dims: number,
    private readonly runner: FeatureRunner,
    private readonly batchSize: number,
  ) {}

  static async load(options: OnnxFeaturesOptions): Promise<OnnxFeatures> {
    const { model, batch_size = 32 } = options;
    checkBatchSize(batch_size);
    checkTensorOptions(options);
    const [name, source] = typeof model === 'string' ? [model, model] : [model.name, model.bytes];
    const checksum = await onnxChecksum(source);
    const session = await Session.create(source, await resolveDevice(options.device ?? 'cpu'));
    try {
      const input = chosen('input', session.inputNames, options.input_name, name);
      const usual = USUAL_OUTPUTS.find((usualName) => session.outputNames.includes(usualName));
      const output = chosen('output', session.outputNames, options.output_name ?? usual, name);
      const tensorOptions = tensorOptionsFor(session, input, options, name);
      const runner = new FeatureRunner(session, input, output, tensorOptions);
      const { height, width } = tensorOptions;
      const black = { data: new Uint8Array(height * width), height, width, channels: 1 };
      const { dims } = await runner.run([black]);
      const label = `${basename(name)}:${output}${options.resize === 'asymmetric' ? ' (asymmetric resize)' : ''}`;
      return new OnnxFeatures(label, checksum, dims, runner, batch_size);
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  extract(images: readonly FeatureImage[]): Promise<Float32Array> {
    return extractInBatches(this.runner, images, this.dims, this.batchSize);
  }

  dispose(): Promise<void> {
    return this.runner.session.release();
  }
}

class FeatureRunner implements FeatureModel {
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

function chosen(
  kind: 'input' | 'output',
  names: readonly string[],
  wanted: string | undefined,
  model: string,
): string {
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
    throw new InvalidArgumentError(
      `${name} is [${values.join(', ')}]; it must be three numbers, above 0 for a std.`,
    );
  }
}
