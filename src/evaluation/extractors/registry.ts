import { TransformersFeatures } from '#evaluation/extractors/transformers-features';
import { downloadFile } from '#hub/download';
import * as path from '#platform/path';
import { ExtractorNotFoundError, InvalidArgumentError } from '../../errors.ts';
import { isFile, isFolder } from '../../files/regular-file.ts';
import { HUB_ID, type HubOptions } from '../../hub/hub-options.ts';
import { Registry } from '../../registry.ts';
import { type Device, deviceOptions, resolveDevice } from '../../runtime/device.ts';
import { convertedExtractor, isTorchFileName } from './convert-extractor.ts';
import { type FeatureExtractor, type FeatureImage, RawPixels } from './feature-extractor.ts';
import { fetchPublishedExtractor } from './fetch-extractor.ts';
import { HUB_EXTRACTORS, type HubExtractorName } from './hub-extractors.ts';
import { OnnxFeatures, type OnnxFeaturesOptions } from './onnx-features.ts';
import {
  extractorsFolder,
  NSFWJS_EXTRACTOR,
  PUBLISHED_EXTRACTORS,
  type PublishedExtractorName,
} from './published-extractors.ts';

export const PREPROCESSINGS = ['pytorch-fid', 'torch-fidelity', 'clean-fid'] as const;
type Preprocessing = (typeof PREPROCESSINGS)[number];

/** The options of the Hub apply to models from there. */
export interface ResolveExtractorOptions
  extends HubOptions,
    Pick<OnnxFeaturesOptions, 'image_size' | 'image_mean' | 'image_std' | 'layout' | 'resize'> {
  /** Shape of the images to be compared; 'raw-pixels' needs it. Default: unknown. */
  readonly image_shape?: Omit<FeatureImage, 'data'> | undefined;
  /**
   * How 'inception' and 'vgg16' get their images. Default 'pytorch-fid': resized bilinearly by PyTorch's rule and scaled
   * by pixel / 127.5 - 1. 'torch-fidelity': resized bilinearly by TensorFlow 1's rule and, for 'inception', scaled by
   * (pixel - 128) / 128, as the original code of the FID did. 'clean-fid': resized by Pillow's antialiased bicubic filter
   * without rounding, and scaled as by 'torch-fidelity' (Parmar et al. 2022).
   */
  readonly preprocessing?: Preprocessing | undefined;
  /** Folder in which names are looked up. Default: `extractorsFolder()`. */
  readonly extractors_dir?: string | undefined;
  /** Where a model runs. Default 'cpu'. */
  readonly device?: Device | undefined;
  /** Which GPU the device `cuda` is, from 0; default: as for `pipeline()`. */
  readonly device_id?: number | undefined;
  /** Images per run of the model, an integer of at least 1. Default 32, for transformers.js models 16. */
  readonly batch_size?: number | undefined;
}

/** What a factory of `extractors` is given. */
export interface ExtractorRequest extends ResolveExtractorOptions {
  /** What follows a colon in the name: '64' of 'inception:64'. Default: none. */
  readonly layer?: string | undefined;
}

/** Makes a feature extractor; whoever asked for it disposes of it. */
export type ExtractorFactory = (request: ExtractorRequest) => Promise<FeatureExtractor>;

/**
 * The feature extractors that have a name of their own. Names take precedence over files and models of `resolveExtractor`.
 *
 * @example
 * extractors.register('mean-colour', async () => new MeanColour());
 * await evaluate({ real, fake, extractor: 'mean-colour' });
 */
export const extractors = new Registry<ExtractorFactory>('feature extractor', {
  inception: (request) => published('inception', request),
  vgg16: (request) => published('vgg16', request),
  'raw-pixels': rawPixels,
  dinov2: (request) => ofHub('dinov2', request),
  clip: (request) => ofHub('clip', request),
});

/**
 * Makes the feature extractor that `spec` names:
 *
 * - a name that was registered with `extractors`.
 * - `inception`, `vgg16`: the published weights of the FID's Inception v3 and of torchvision's VGG16. They are taken from
 *   `extractors_dir`, or once downloaded into it (96 and 553 MB), checked by their SHA-256 and converted to ONNX.
 * - `raw-pixels`: the pixels themselves; needs `image_shape`.
 * - `dinov2`, `clip`: DINOv2 ViT-L/14 and CLIP ViT-L/14 of 336 pixels, from the Hub (1.2 GB each), with the preprocessing
 *   of the metrics `fd-dinov2` and `cmmd`; or `dinov2.onnx` and `clip.onnx` in `extractors_dir`.
 * - `path/to/file.onnx`: any ONNX model of images; or `.pth` or `.safetensors` of the published weights.
 * - `owner/name/path/file.onnx`: the same from the Hub.
 * - `NAME`: NAME.onnx in `extractors_dir`; `nsfwjs-inception-v3` is what `npx tsx scripts/nsfwjs-inception.ts` puts there.
 * - `owner/name`, or a folder with config.json: a transformers.js model for image-feature-extraction.
 *
 * Registered extractors and ONNX models take a layer behind a colon, `inception:64`. Layers of `inception`: 64, 192, 768,
 * 2048 (default), logits_unbiased, logits. Of `vgg16`: fc2, fc2_relu (default), logits. Of other models: their outputs.
 *
 * @throws {ExtractorNotFoundError} when the weights are missing and cannot be downloaded. It says what to fetch from where.
 * @throws {InvalidArgumentError} when `spec` names nothing. And what the extractors and downloads throw.
 *
 * @example
 * const inception = await resolveExtractor('inception', { batch_size: 16 });
 * const features = await inception.extract(images);
 * console.log(inception.name, inception.checksum);
 */
export async function resolveExtractor(spec: string, options: ResolveExtractorOptions = {}): Promise<FeatureExtractor> {
  const [name, layer] = splitLayer(spec);
  const factory = extractors.find(name);
  if (factory) return factory({ ...options, layer });
  if (options.preprocessing)
    throw new InvalidArgumentError(
      `preprocessing '${options.preprocessing}' is for the extractors inception and vgg16: for '${spec}' set resize, image_mean and image_std.`,
    );
  if (/\.(onnx|safetensors)$/i.test(name) || isTorchFileName(name))
    return modelFile(await localOrDownloaded(name, options), layer, modelOptions(options));
  const folder = options.extractors_dir ?? extractorsFolder();
  const inFolder = path.join(folder, `${name}.onnx`);
  if (/^[\w.-]+$/.test(name) && (await isFile(inFolder))) return modelFile(inFolder, layer, modelOptions(options));
  if (name === NSFWJS_EXTRACTOR)
    throw new ExtractorNotFoundError(
      `the extractor ${name} is not at ${inFolder}: in a clone of this package run \`npx tsx scripts/nsfwjs-inception.ts\`, which makes it from the npm package nsfwjs.`,
    );
  return transformersModel(spec, folder, options);
}

/** A name and the layer after its colon. A colon of a Windows drive is followed by a slash. */
export function splitLayer(spec: string): [name: string, layer: string | undefined] {
  const [, name = '', layer] = /^(.+?)(?::([^:/\\]+))?$/.exec(spec) ?? [];
  return [name, layer];
}

async function rawPixels({ image_shape, layer }: ExtractorRequest): Promise<RawPixels> {
  if (layer !== undefined)
    throw new InvalidArgumentError(`the extractor raw-pixels has no layers, so not '${layer}' either.`);
  if (image_shape) return new RawPixels(image_shape);
  throw new InvalidArgumentError(
    'the extractor raw-pixels needs image_shape, the height, width and channels of the images to be compared.',
  );
}

async function published(name: PublishedExtractorName, { layer, ...options }: ExtractorRequest): Promise<OnnxFeatures> {
  const file = await fetchPublishedExtractor(name, options.extractors_dir ?? extractorsFolder(), options);
  const { preprocessing = 'pytorch-fid' } = options;
  if (preprocessing === 'pytorch-fid') return modelFile(file, layer, modelOptions(options));
  const { torchFidelityScale: scale } = PUBLISHED_EXTRACTORS[name];
  return modelFile(file, layer, {
    ...modelOptions(options),
    resize: preprocessing === 'clean-fid' ? 'clean' : 'asymmetric',
    image_mean: [scale, scale, scale],
    image_std: [scale, scale, scale],
  });
}

async function ofHub(name: HubExtractorName, { layer, ...options }: ExtractorRequest): Promise<OnnxFeatures> {
  if (layer !== undefined || options.preprocessing)
    throw new InvalidArgumentError(
      `the extractor ${name} has one layer and one preprocessing, so not '${layer ?? options.preprocessing}'.`,
    );
  const { repository, file, options: fixed } = HUB_EXTRACTORS[name];
  const own = path.join(options.extractors_dir ?? extractorsFolder(), `${name}.onnx`);
  const model = (await isFile(own)) ? own : await downloadFile(repository, file, options);
  const { device, device_id, batch_size } = options;
  return OnnxFeatures.load({ ...fixed, model, device, device_id, batch_size });
}

type ModelOptions = Omit<OnnxFeaturesOptions, 'model' | 'output_name'>;

function modelOptions(options: ResolveExtractorOptions): ModelOptions {
  const { image_size, image_mean, image_std, layout, resize, device, device_id, batch_size } = options;
  return { image_size, image_mean, image_std, layout, resize, device, device_id, batch_size };
}

async function modelFile(file: string, layer: string | undefined, options: ModelOptions): Promise<OnnxFeatures> {
  const output_name = layer;
  if (/\.onnx$/i.test(file)) return OnnxFeatures.load({ ...options, model: file, output_name });
  const { network, bytes } = await convertedExtractor(file);
  return OnnxFeatures.load({ ...options, model: { name: `${network.name}.onnx`, bytes }, output_name });
}

async function localOrDownloaded(file: string, options: ResolveExtractorOptions): Promise<string> {
  if (await isFile(file)) return file;
  const [, repository, inside] = /^([\w][\w.-]*\/[\w][\w.-]*)\/(.+)$/.exec(file) ?? [];
  if (repository === undefined || inside === undefined)
    throw new ExtractorNotFoundError(`the extractor's file ${path.resolve(file)} does not exist.`);
  return downloadFile(repository, inside, options);
}

async function transformersModel(
  spec: string,
  folder: string,
  options: ResolveExtractorOptions,
): Promise<TransformersFeatures> {
  const { revision, local_files_only, cache_dir, batch_size, device = 'cpu', device_id } = options;
  if (!(await isFolder(spec)) && !HUB_ID.test(spec))
    throw new InvalidArgumentError(
      `the extractor '${spec}' is unknown: use ${extractors.names().join(', ')}, the name of an .onnx file in ${folder}, a path/to/file.onnx[:output], or the Hub id or folder of a transformers.js model for image-feature-extraction.`,
    );
  return TransformersFeatures.load({
    model: spec,
    revision,
    local_files_only,
    cache_dir: cache_dir ?? undefined,
    batch_size,
    ...deviceOptions(await resolveDevice(device, { device_id })),
  });
}
