import { readFile } from '#platform/fs';
import { requireText } from '../arguments.ts';
import type { Autoencoder } from '../autoencoders/autoencoder.ts';
import type { SaveAutoencoderOptions } from '../autoencoders/save-autoencoder.ts';
import type { PointSet } from '../datasets/points/points.ts';
import { FileFormatError, InvalidArgumentError } from '../errors.ts';
import { float32Tensor, type WeightsDtype } from '../files/float-tensors.ts';
import { stringifySorted } from '../files/json.ts';
import { startsWith } from '../files/known-files.ts';
import type { NamedTensor } from '../files/safetensors.ts';
import { ONNX_DTYPES, type OnnxDtype } from '../hub/hub-options.ts';
import type { ModelCardFacts } from '../hub/model-card.ts';
import {
  AUTOENCODERS,
  DIFFUSERS_VERSION,
  type IsotropyFile,
  type PipelineFile,
  type PipelineLayout,
  pipelineFiles,
  savePipelineFolder,
} from '../hub/pipeline-folder.ts';
import { type DiffusionModel, exportModel, refuseFloat32Only } from '../models/model.ts';
import { refuseNonFiniteWeights } from '../models/weights.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';

/** An autoencoder as a pipeline of latent diffusion holds it. */
export interface LatentCodec {
  readonly autoencoder: Autoencoder;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

interface TrainedPipeline {
  readonly model: DiffusionModel;
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** The moving average of the weights, saved beside them as `unet_ema`. */
  readonly averagedWeights?: ReadonlyMap<string, Float32Array> | undefined;
  readonly scheduler: Scheduler;
  /** What decodes the latents that the model draws; default: it draws images or points themselves. */
  readonly autoencoder?: LatentCodec | undefined;
  /** The training points: how they were scaled, which the pipeline undoes, and the names of their columns. */
  readonly points?: Pick<PointSet, 'scaler' | 'columns'> | undefined;
  /** Measures a model with these weights; the folder does not say its isotropy without. */
  readonly measure?: ((weights: ReadonlyMap<string, Float32Array>) => Promise<IsotropyFile>) | undefined;
  /** For `README.md`; none without. */
  readonly card?: Omit<ModelCardFacts, 'layout' | 'isInDiffusers' | 'picture'> | undefined;
  /** A PNG file of samples for the card; default none. */
  readonly picture?: Uint8Array | undefined;
}

/** Reads the picture of a card. @throws {FileFormatError} when it is not a PNG file. */
export async function readPicture(file: string): Promise<Uint8Array> {
  requireText('picture, a PNG file,', file);
  const bytes = await readFile(file);
  if (startsWith(bytes, '\x89PNG\r\n\x1a\n')) return bytes;
  throw new FileFormatError(`${file} is not a PNG file, which the picture of a model card must be`);
}

/** The library of classes that diffusers does not have. */
const OWN_LIBRARY = 'iso_diffusion';

/** The picture of the card in the folder. */
const PICTURE = 'samples.png';

/** How a pipeline folder is written. */
export interface SaveFormat {
  /**
   * The type of the safetensors: 'fp32' (default), or rounded to the nearest 'fp16' or 'bf16', half as large. `model.onnx`
   * stays float32.
   */
  readonly dtype?: WeightsDtype | undefined;
  /**
   * 'fp16' also writes the model as it draws in half precision, `model_fp16.onnx` beside `model.onnx`, which
   * `dtype: 'fp16'` of `pipeline()` and of transformers.js open. Default 'fp32': `model.onnx` alone.
   */
  readonly onnx_dtype?: OnnxDtype | undefined;
  /** Marks the safetensors, as diffusers does: 'fp16' writes `diffusion_pytorch_model.fp16.safetensors`. Default none. */
  readonly variant?: string | undefined;
  /**
   * 'nested' (default): `unet/`, `scheduler/`; 'flat': all files in one folder, as google/ddpm-* are published;
   * 'transformers.js': nested, with `config.json` and `onnx/model.onnx` for `AutoModel.from_pretrained` of transformers.js.
   */
  readonly layout?: PipelineLayout | undefined;
}

/**
 * Exports the model to ONNX and writes it with its weights, scheduler and scaling as a pipeline folder.
 *
 * @throws {NonFiniteWeightsError} when a weight is NaN or infinite.
 * @throws {InvalidArgumentError} when a weight is too large for `dtype` or `onnx_dtype`, the model does not compute in that,
 * or `variant` is not a plain word.
 */
export async function saveTrainedPipeline(
  directory: string,
  { model, weights, averagedWeights, scheduler, autoencoder, points, measure, card, picture }: TrainedPipeline,
  { dtype = 'fp32', onnx_dtype = 'fp32', variant, layout }: SaveFormat = {},
): Promise<void> {
  if (!ONNX_DTYPES.includes(onnx_dtype))
    throw new InvalidArgumentError(`onnx_dtype '${onnx_dtype}' is unknown: use one of ${ONNX_DTYPES.join(', ')}`);
  if (onnx_dtype === 'fp16') refuseFloat32Only(model, "onnx_dtype 'fp16'");
  refuseNonFiniteWeights(weights);
  if (averagedWeights) refuseNonFiniteWeights(averagedWeights);
  const className = model.config._class_name;
  const library = model.library ?? OWN_LIBRARY;
  await savePipelineFolder(directory, {
    layout,
    variant,
    modelIndex: {
      _class_name: autoencoder ? 'LDMPipeline' : 'DDPMPipeline',
      _diffusers_version: DIFFUSERS_VERSION,
      scheduler: [scheduler.library, scheduler.className],
      unet: [library, className],
      ...(autoencoder
        ? {
            [AUTOENCODERS[0]]: [
              autoencoder.autoencoder.library ?? OWN_LIBRARY,
              autoencoder.autoencoder.config._class_name,
            ],
          }
        : {}),
    },
    unetConfig: { _diffusers_version: DIFFUSERS_VERSION, ...model.config },
    unet: { ...exported(model, weights, { dtype, onnx_dtype }), isotropy: await measure?.(weights) },
    unetEma: averagedWeights && {
      ...exported(model, averagedWeights, { dtype, onnx_dtype }),
      isotropy: await measure?.(averagedWeights),
    },
    schedulerConfig: { ...scheduler.toConfig() },
    extraFiles: {
      ...(card
        ? {
            'README.md': (await import('../hub/model-card.ts')).modelCard({
              ...card,
              isInDiffusers: library === 'diffusers',
              layout,
              picture: picture && PICTURE,
            }),
          }
        : {}),
      ...(autoencoder ? await codecFiles(autoencoder, { dtype, variant }) : {}),
      ...(picture ? { [PICTURE]: picture } : {}),
      ...(points ? { [pipelineFiles.pointScaler]: scalerJson(points) } : {}),
    },
  });
}

/** The files of an autoencoder by their path in the folder. */
async function codecFiles(
  { autoencoder, weights }: LatentCodec,
  format: SaveAutoencoderOptions,
): Promise<Record<string, PipelineFile>> {
  const { autoencoderFiles } = await import('../autoencoders/save-autoencoder.ts');
  const files = [...autoencoderFiles(autoencoder, weights, format)];
  return Object.fromEntries(files.map(([name, content]) => [`${AUTOENCODERS[0]}/${name}`, content]));
}

function scalerJson({ scaler: { kind, offset, scale }, columns }: Pick<PointSet, 'scaler' | 'columns'>): string {
  return stringifySorted({
    kind,
    offset: [...offset],
    scale: [...scale],
    ...(columns ? { columns: [...columns] } : {}),
  });
}

function exported(
  model: DiffusionModel,
  weights: ReadonlyMap<string, Float32Array>,
  { dtype, onnx_dtype }: { readonly dtype: WeightsDtype; readonly onnx_dtype: OnnxDtype },
) {
  const tensors = model.parameters.map(({ name, shape }): [string, NamedTensor] => [
    name,
    float32Tensor(name, shape, weights.get(name) ?? new Float32Array(), dtype),
  ]);
  return {
    onnx: () => exportModel(model, weights),
    halfOnnx: onnx_dtype === 'fp16' ? () => exportModel(model, weights, 'float16') : undefined,
    weights: new Map(tensors),
  };
}
