import { stat } from 'node:fs/promises';
import path from 'node:path';
import { ExtractorNotFoundError, InvalidArgumentError } from '../../errors.ts';
import { type Device, resolveDevice } from '../../runtime/device.ts';
import type { FeatureExtractor, FeatureImage } from './feature-extractor.ts';
import { OnnxFeatures, type OnnxFeaturesOptions } from './onnx-features.ts';
import {
  extractorsFolder,
  findPublishedExtractor,
  isPublishedExtractor,
  PUBLISHED_EXTRACTORS,
} from './published-extractors.ts';
import { RawPixels } from './raw-pixels.ts';
import { TransformersFeatures } from './transformers-features.ts';

export interface ResolveExtractorOptions
  extends Pick<OnnxFeaturesOptions, 'image_size' | 'image_mean' | 'image_std' | 'layout'> {
  /** Shape of the images to be compared; `raw-pixels` needs it. */
  image_shape?: Omit<FeatureImage, 'data'>;
  /**
   * How images are resized and scaled for `inception` and `vgg16`. `pytorch-fid` (default): bilinear by PyTorch's rule
   * and pixel / 127.5 - 1; `torch-fidelity`: bilinear by TensorFlow 1's rule and, for `inception`, (pixel - 128) / 128.
   */
  preprocessing?: 'pytorch-fid' | 'torch-fidelity';
  /** Where `inception` and `vgg16` are looked for; default `extractorsFolder()`. */
  extractors_dir?: string;
  /** Default `cpu`. */
  device?: Device;
  /** Images of one run of the model. */
  batch_size?: number;
  /** Of a Hub id; default `main`. */
  revision?: string;
  /** Of a Hub id: never ask the network. */
  local_files_only?: boolean;
}

/**
 * Makes the feature extractor that `spec` names:
 *
 * - `inception`, `vgg16`: the published weights, from `extractors_dir`; `inception:64` and the like choose a layer
 *   (64, 192, 768, 2048, logits_unbiased, logits; fc2, fc2_relu, logits). Defaults: 2048, fc2_relu.
 * - `raw-pixels`: the pixels themselves; needs `image_shape`.
 * - `path/to/file.onnx` or `path/to/file.onnx:output`: any ONNX model of images.
 * - `owner/name`, or a folder with config.json: a transformers.js model for image-feature-extraction.
 *
 * @throws {ExtractorNotFoundError} when there are no such weights, with what to fetch from where.
 * @throws {InvalidArgumentError} when `spec` names nothing. And what the extractors throw.
 *
 * @example
 * const inception = await resolveExtractor('inception', { batch_size: 16 });
 * const features = await inception.extract(images);
 * console.log(inception.name, inception.checksum);
 */
export async function resolveExtractor(
  spec: string,
  options: ResolveExtractorOptions = {},
): Promise<FeatureExtractor> {
  if (spec === 'raw-pixels') return rawPixels(options);
  const [name = '', layer] = spec.split(':', 2);
  if (isPublishedExtractor(name)) {
    const file = await findPublishedExtractor(name, options.extractors_dir ?? extractorsFolder());
    const { defaultLayer, torchFidelityScale: scale } = PUBLISHED_EXTRACTORS[name];
    const asTorchFidelity = {
      resize: 'asymmetric',
      image_mean: [scale, scale, scale],
      image_std: [scale, scale, scale],
    } as const;
    return OnnxFeatures.load({
      ...modelOptions(options),
      ...(options.preprocessing === 'torch-fidelity' ? asTorchFidelity : {}),
      model: file,
      output_name: layer ?? defaultLayer,
    });
  }
  const [, file, output] = /^(.+\.onnx)(?::([^/\\]+))?$/i.exec(spec) ?? [];
  if (file !== undefined) {
    if (!(await stat(file).catch(() => undefined))?.isFile())
      throw new ExtractorNotFoundError(`the extractor's file ${path.resolve(file)} does not exist.`);
    return OnnxFeatures.load({ ...modelOptions(options), model: file, output_name: output });
  }
  return transformersModel(spec, options);
}

function rawPixels({ image_shape }: ResolveExtractorOptions): RawPixels {
  if (image_shape) return new RawPixels(image_shape);
  throw new InvalidArgumentError(
    'the extractor raw-pixels needs image_shape, the height, width and channels of the images to be compared.',
  );
}

function modelOptions(options: ResolveExtractorOptions) {
  const { image_size, image_mean, image_std, layout, device, batch_size } = options;
  return { image_size, image_mean, image_std, layout, device, batch_size };
}

async function transformersModel(
  spec: string,
  options: ResolveExtractorOptions,
): Promise<TransformersFeatures> {
  const { revision, local_files_only, batch_size, device = 'cpu' } = options;
  const isFolder = (await stat(spec).catch(() => undefined))?.isDirectory() ?? false;
  if (!isFolder && !/^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(spec))
    throw new InvalidArgumentError(
      `the extractor '${spec}' is unknown: use inception, vgg16, raw-pixels, a file.onnx[:output], or the Hub id or folder of a transformers.js model for image-feature-extraction.`,
    );
  return TransformersFeatures.load({
    model: spec,
    revision,
    local_files_only,
    batch_size,
    device: await resolveDevice(device),
  });
}
