import path from 'node:path';
import { requireObject, requireText } from '../../arguments.ts';
import { errorText, FileFormatError, InvalidArgumentError } from '../../errors.ts';
import { exists, fileDigest } from '../../files/regular-file.ts';
import { importTransformers } from '../../hub/environment.ts';
import { requireInteger } from '../../metrics/metric.ts';
import type { DeviceReport } from '../../runtime/device.ts';
import { type FeatureModel, ModelFeatures, vectorLength } from './feature-extractor.ts';

type Transformers = typeof import('@huggingface/transformers');
type ImagePipeline = Awaited<ReturnType<typeof createPipeline>>;

/** Which vision model of transformers.js gives the features, and where it runs. */
export interface TransformersFeaturesOptions {
  /** A model of the task `image-feature-extraction` (DINOv2, CLIP vision, ViT): Hub name or folder. */
  readonly model: string;
  /** Branch, tag or commit of a model from the Hub. Default 'main'. */
  readonly revision?: string | undefined;
  /** Weights to load: features of quantised weights do not compare with others. Default 'fp32'. */
  readonly dtype?: 'fp32' | 'fp16' | 'q8' | undefined;
  /** Where the model runs. Default 'cpu'. */
  readonly device?: DeviceReport['device'] | undefined;
  /** Which GPU the device `cuda` is, from 0; default: 0. */
  readonly device_id?: number | undefined;
  /** Never ask the network. Default false. */
  readonly local_files_only?: boolean | undefined;
  /** Folder of downloaded models. Default: that of transformers.js. */
  readonly cache_dir?: string | undefined;
  /** Take the model's `pooler_output` instead of the class token. Default false. */
  readonly pool?: boolean | undefined;
  /** Images per run of the model, an integer of at least 1. Default 16. */
  readonly batch_size?: number | undefined;
}

/**
 * Features of a transformers.js vision model with the model's own preprocessing. Of a model that gives tokens it
 * takes the first, the class token, as the Fréchet distance on DINOv2 does (Stein et al. 2023); of CLIP, the image
 * embedding.
 *
 * @throws {FileFormatError} when the model cannot be loaded, with the reason.
 * @throws {InvalidArgumentError} for a model whose output is neither one vector nor tokens.
 *
 * @example
 * const dino = await TransformersFeatures.load({ model: 'onnx-community/dinov2-small' });
 */
export class TransformersFeatures extends ModelFeatures {
  /** Loads the model, from the Hub or a folder. */
  static async load(options: TransformersFeaturesOptions): Promise<TransformersFeatures> {
    requireObject('the options of TransformersFeatures', options);
    requireText('model', options.model);
    const { model, revision = 'main', pool = false, batch_size = 16 } = options;
    requireInteger('batch_size', batch_size, 1);
    const transformers = await importTransformers();
    const pipe = await createPipeline(transformers, options);
    try {
      const checksum = await fileDigest(await weightFiles(transformers, pipe, options));
      const loaded = featureModel(transformers, pipe, pool);
      const grey = { data: new Uint8Array(64 * 64 * 3).fill(128), height: 64, width: 64, channels: 3 };
      const { dims } = await loaded.run([grey]);
      const name = `${model}@${revision}${pool ? ':pooler_output' : ''}`;
      return new TransformersFeatures(name, checksum, dims, loaded, batch_size);
    } catch (error) {
      await pipe.dispose();
      throw error;
    }
  }
}

function featureModel({ RawImage }: Transformers, pipe: ImagePipeline, pool: boolean): FeatureModel {
  return {
    async run(images) {
      const raw = images.map(({ data, width, height, channels }) =>
        new RawImage(new Uint8ClampedArray(data), width, height, channels === 1 ? 1 : 3).rgb(),
      );
      const { data, dims: shape } = await pipe(raw, pool ? { pool: true } : {});
      if (!(data instanceof Float32Array))
        throw new InvalidArgumentError('the model gives features that are not float32; choose another dtype.');
      const [count = 0, tokens = 0, dims = 0] = shape;
      if (shape.length !== 3) return { data, dims: vectorLength(shape, images.length, 'the model output') };
      const first = new Float32Array(count * dims);
      for (let i = 0; i < count; i++) first.set(data.subarray(i * tokens * dims, i * tokens * dims + dims), i * dims);
      return { data: first, dims: vectorLength([count, dims], images.length, 'the class token') };
    },
    async dispose() {
      await pipe.dispose();
    },
  };
}

async function createPipeline(transformers: Transformers, options: TransformersFeaturesOptions) {
  const { model, revision = 'main', dtype = 'fp32', device = 'cpu', device_id, local_files_only, cache_dir } = options;
  const isNumbered = device === 'cuda' && device_id !== undefined;
  const session_options = { executionProviders: [{ name: 'cuda', deviceId: device_id }] };
  try {
    return await transformers.pipeline('image-feature-extraction', model, {
      revision,
      dtype,
      device,
      ...(isNumbered ? { session_options } : {}),
      ...(local_files_only === undefined ? {} : { local_files_only }),
      ...(cache_dir === undefined ? {} : { cache_dir }),
    });
  } catch (cause) {
    throw new FileFormatError(
      `the model ${model} cannot be loaded: ${errorText(cause)}. Give the name of a Hub model with ONNX weights, or a folder with config.json, preprocessor_config.json and onnx/model.onnx.`,
      { cause },
    );
  }
}

/** The ONNX files the pipeline was loaded from: in the model's folder, or in the cache of transformers.js. */
async function weightFiles(
  { ModelRegistry, env }: Transformers,
  pipe: ImagePipeline,
  options: TransformersFeaturesOptions,
): Promise<string[]> {
  const { model, revision = 'main', dtype = 'fp32', device = 'cpu', cache_dir } = options;
  const names = await ModelRegistry.get_model_files(model, { config: pipe.model.config, dtype, device });
  const cache = cache_dir ?? env.cacheDir;
  const folders = [
    model,
    path.join(env.localModelPath, model),
    ...(cache ? [path.join(cache, model, revision === 'main' ? '' : revision)] : []),
  ];
  return Promise.all(names.filter((name) => name.startsWith('onnx/')).map((name) => firstExisting(folders, name)));
}

async function firstExisting(folders: readonly string[], name: string): Promise<string> {
  for (const folder of folders) {
    const file = path.join(folder, name);
    if (await exists(file)) return file;
  }
  throw new FileFormatError(
    `${name} is in none of ${folders.join(', ')}, so the checksum of the weights cannot be computed. Set cache_dir.`,
  );
}
