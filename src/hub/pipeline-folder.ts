import { mkdir, readdir } from '#platform/fs';
import { dirname, join } from '#platform/path';
import { InvalidArgumentError } from '../errors.ts';
import { type FileContent, syncDirectory, writeDirectoryAtomic, writeFileSynced } from '../files/atomic.ts';
import { type JsonObject, stringifySorted } from '../files/json.ts';
import { exists, isFile, isFolder } from '../files/regular-file.ts';
import { type NamedTensor, safetensorsChunks } from '../files/safetensors.ts';
import { parseOptions } from '../options.ts';
import * as z from '../zod.ts';
import { ONNX_DTYPES, type OnnxDtype } from './hub-options.ts';

/*
 * The layout of a saved pipeline: the names of its files, as in diffusers, and how a folder of them is written.
 * `open-pretrained.ts` reads one.
 */

/** The diffusers version whose configs and numerics this package follows. Saved configs name it, as diffusers' do. */
export const DIFFUSERS_VERSION = '0.40.0';

/** The components that turn what a U-Net draws into images, by their names in diffusers' pipelines; LDMPipeline has `vqvae`. */
export const AUTOENCODERS = ['vqvae', 'vae', 'movq'] as const;

/** File names in the folders of the pipeline and its components, as in diffusers and transformers.js. */
export const pipelineFiles = {
  modelIndex: 'model_index.json',
  config: 'config.json',
  onnx: 'model.onnx',
  schedulerConfig: 'scheduler_config.json',
  isotropy: 'isotropy.json',
  /** How the training points were scaled; only folders of points have it. */
  pointScaler: 'point_scaler.json',
  /** Of the layout `transformers.js`. */
  transformersOnnx: 'onnx/model.onnx',
  /** In half precision, by transformers.js's names. */
  halfOnnx: 'model_fp16.onnx',
  transformersHalfOnnx: 'onnx/model_fp16.onnx',
} as const;

/** The ONNX files of a model that computes in `dtype`: beside its config, and in the layout `transformers.js`. */
export function onnxFiles(dtype: OnnxDtype | null | undefined): readonly [own: string, shared: string] {
  const { onnx, transformersOnnx, halfOnnx, transformersHalfOnnx } = pipelineFiles;
  return dtype === 'fp16' ? [halfOnnx, transformersHalfOnnx] : [onnx, transformersOnnx];
}

/**
 * `nested`: each component in a folder of its own, as diffusers saves a pipeline. `flat`: all in one folder, as
 * google/ddpm-* are published. `transformers.js`: as `nested`, but the ONNX file of the model that `pipeline()` takes is
 * `onnx/model.onnx`, and `config.json` beside `model_index.json` lets `AutoModel.from_pretrained` open it. diffusers loads
 * all of them.
 */
export type PipelineLayout = (typeof PIPELINE_LAYOUTS)[number];
export const PIPELINE_LAYOUTS = ['nested', 'flat', 'transformers.js'] as const;

/** The folders of the components. `unet_ema` holds the averaged weights in the same form as `unet` the raw ones. */
export const componentFolders = {
  nested: { unet: 'unet', unetEma: 'unet_ema', scheduler: 'scheduler' },
  flat: { unet: '', unetEma: 'unet_ema', scheduler: '' },
  'transformers.js': { unet: 'unet', unetEma: 'unet_ema', scheduler: 'scheduler' },
} as const;

const component = z.tuple([z.string(), z.string()]);
export const modelIndexSchema = z.looseObject({
  // A pair where the pipeline's class lies in the repository: [module, class].
  _class_name: z.union([z.string().check(z.minLength(1)), component]),
  _diffusers_version: z.optional(z.string()),
  scheduler: component,
  unet: component,
});
export const configSchema = z.looseObject({ _class_name: z.string().check(z.minLength(1)) });

/** `model_index.json`: the pipeline's class, and for each component the library and class that load it. */
export type ModelIndex = JsonObject & {
  _class_name: string;
  _diffusers_version?: string | undefined;
  scheduler: [library: string, className: string];
  unet: [library: string, className: string];
};

/** The name of the component in a `model_index.json` that decodes what the U-Net draws; undefined where there is none. */
export function autoencoderIn(modelIndex: object): (typeof AUTOENCODERS)[number] | undefined {
  // [library, class], both null for a component that is left out.
  const isComponent = (entry: unknown) => Array.isArray(entry) && entry.some((part) => part !== null);
  return AUTOENCODERS.find((name) => isComponent(Reflect.get(modelIndex, name)));
}

/** A component's configuration: its class and that class's arguments. */
export type ComponentConfig = JsonObject & { _class_name: string };

/**
 * `isotropy.json` beside the weights, which diffusers does not read: the mean squared predicted noise per element over the
 * training data, and the weight of the isotropy penalty in training, null for a loss of which it is not known.
 */
export const isotropySchema = z.object({
  isotropy: z.number().check(z.gte(0)),
  standard_error: z.number().check(z.gte(0)),
  samples: z.int().check(z.gte(1)),
  lambda: z.nullable(z.number().check(z.gte(0))),
});
export type IsotropyFile = z.output<typeof isotropySchema>;

/** A model in both forms. */
export interface ModelFiles {
  /** The model in ONNX's binary form, or a function that makes it when it is written. */
  readonly onnx: Uint8Array | (() => Uint8Array);
  readonly weights: ReadonlyMap<string, NamedTensor>;
  /** The model in ONNX's binary form that computes in float16, which is written beside the other; default none. */
  readonly halfOnnx?: Uint8Array | (() => Uint8Array) | undefined;
  /** Default: the folder does not say. */
  readonly isotropy?: IsotropyFile | undefined;
}

/** What a file of the folder holds, in pieces, or made when it is written. */
export type PipelineFile = FileContent | (() => Uint8Array);

export interface PipelineParts {
  readonly modelIndex: ModelIndex;
  readonly unetConfig: ComponentConfig;
  readonly unet: ModelFiles;
  /** The moving average of the weights. */
  readonly unetEma?: ModelFiles | undefined;
  readonly schedulerConfig: ComponentConfig;
  /** Further files by their path in the folder (`/` between folders), for instance `point_scaler.json`. */
  readonly extraFiles?: Readonly<Record<string, PipelineFile>> | undefined;
  /** Default 'nested'. */
  readonly layout?: PipelineLayout | undefined;
  /** Marks the files of weights, e.g. 'fp16': `diffusion_pytorch_model.fp16.safetensors`. */
  readonly variant?: string | undefined;
}

/**
 * Saves a pipeline as a folder that `pipeline()`, and for models diffusers knows also diffusers, can load. The folder
 * appears whole or not at all. An existing folder is replaced only if it is empty or a pipeline itself, and is kept
 * until the new one is in place. Weights are written tensor by tensor and not copied.
 *
 * @throws InvalidArgumentError if `dir` holds something else, a part is malformed or a path leaves the folder.
 * @throws the operating system's error if the folder cannot be written.
 */
export async function savePipelineFolder(dir: string, parts: PipelineParts): Promise<void> {
  // Everything is checked, and all but ONNX serialised, before the first byte is written.
  const files = filesOf(parts);
  for (const [path, content] of Object.entries(parts.extraFiles ?? {})) {
    checkRelativePath(path);
    if (files.has(path)) throw new InvalidArgumentError(`extraFiles would replace the pipeline's own ${path}.`);
    files.set(path, content);
  }
  await checkReplaceable(dir, pipelineFiles.modelIndex);
  await writeDirectoryAtomic(dir, async (temporary) => {
    const folders = new Set<string>();
    for (const [path, content] of files) {
      const target = join(temporary, path);
      await mkdir(dirname(target), { recursive: true });
      await writeFileSynced(target, typeof content === 'function' ? content() : content);
      folders.add(dirname(target));
    }
    for (const folder of folders) await syncDirectory(folder);
  });
}

function filesOf(parts: PipelineParts) {
  const { modelIndex, unetConfig, schedulerConfig, variant } = parts;
  const folders = componentFolders[parts.layout ?? 'nested'];
  parseOptions(modelIndexSchema, modelIndex, 'modelIndex');
  parseOptions(configSchema, unetConfig, 'unetConfig');
  parseOptions(configSchema, schedulerConfig, 'schedulerConfig');
  const configText = stringifySorted(unetConfig);
  const files = new Map<string, PipelineFile>([
    [pipelineFiles.modelIndex, stringifySorted(modelIndex)],
    [inFolder(folders.scheduler, pipelineFiles.schedulerConfig), stringifySorted(schedulerConfig)],
  ]);
  const addModel = (folder: string, { onnx, halfOnnx, weights, isotropy }: ModelFiles) => {
    files.set(inFolder(folder, pipelineFiles.config), configText);
    files.set(inFolder(folder, pipelineFiles.onnx), onnx);
    if (halfOnnx) files.set(inFolder(folder, pipelineFiles.halfOnnx), halfOnnx);
    files.set(inFolder(folder, weightsFile(variant)), safetensorsChunks(weights, { format: 'pt' }));
    if (isotropy) files.set(inFolder(folder, pipelineFiles.isotropy), stringifySorted(isotropy));
  };
  addModel(folders.unet, parts.unet);
  if (parts.unetEma) addModel(folders.unetEma, parts.unetEma);
  if (parts.layout === 'transformers.js') {
    const shown = parts.unetEma ? folders.unetEma : folders.unet;
    for (const dtype of ONNX_DTYPES) {
      const [own, shared] = onnxFiles(dtype);
      const content = files.get(inFolder(shown, own));
      files.delete(inFolder(shown, own));
      if (content) files.set(shared, content);
    }
    files.set(pipelineFiles.config, stringifySorted(transformersConfig(unetConfig)));
  }
  return files;
}

/** transformers.js would look for a quantised model on wasm unless the config names the type. */
function transformersConfig({ _class_name }: ComponentConfig): JsonObject {
  return { architectures: [_class_name], model_type: 'iso_diffusion', 'transformers.js_config': { dtype: 'fp32' } };
}

function inFolder(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}

/** Refuses every path that could leave the folder on any system, or that is not in its plainest form. */
function checkRelativePath(path: string): void {
  const segments = path.split('/');
  const unsafe = /[\\:\0]/.test(path) || segments.some((part) => part === '' || part === '.' || part === '..');
  if (unsafe)
    throw new InvalidArgumentError(
      `extraFiles has the path ${JSON.stringify(path)}; it must be relative, inside the folder, with "/" between names.`,
    );
}

/**
 * Makes sure that a folder may be written: there is none, it is empty, or it holds `marker`, which tells that it was saved
 * before.
 *
 * @throws {InvalidArgumentError} when it holds something else.
 */
export async function checkReplaceable(dir: string, marker: string): Promise<void> {
  if (!(await exists(dir))) return;
  if (!(await isFolder(dir))) throw new InvalidArgumentError(`${dir} is a file, where a folder is to be saved.`);
  const names = await readdir(dir);
  if (names.length > 0 && !names.includes(marker))
    throw new InvalidArgumentError(
      `${dir} holds files but no ${marker}, so it is not replaced. Choose a new or empty folder.`,
    );
}

/*
 * How diffusers names weights: `diffusion_pytorch_model.safetensors`, or `diffusion_pytorch_model.fp16.safetensors` for
 * the variant fp16. Large models have shards, `diffusion_pytorch_model-00001-of-00002.safetensors`, and the index
 * `diffusion_pytorch_model.safetensors.index.json`, which maps each tensor to its shard.
 */
const STEM = 'diffusion_pytorch_model';
const WEIGHTS_FILE = `${STEM}.safetensors`;
const VARIANT = /^[A-Za-z0-9_]+$/;
const PICKLE = /\.(bin|pt|pth|ckpt|pkl)$/i;

/** The name of a file of weights. @throws {InvalidArgumentError} when `variant` is not a plain word. */
export function weightsFile(variant: string | undefined): string {
  if (variant === undefined) return WEIGHTS_FILE;
  if (!VARIANT.test(variant))
    throw new InvalidArgumentError(`variant '${variant}' must be a word of letters, digits and '_', such as 'fp16'`);
  return `${STEM}.${variant}.safetensors`;
}

/** Names of the index of a sharded model; diffusers 0.29 to 0.30 put the variant elsewhere than before and since. */
function indexFiles(variant: string | undefined): string[] {
  const plain = `${WEIGHTS_FILE}.index.json`;
  return variant === undefined
    ? [plain]
    : [`${WEIGHTS_FILE}.index.${variant}.json`, `${WEIGHTS_FILE}.${variant}.index.json`];
}

/** Whether a file name is one of the variant's weights: whole, a shard, or the index. */
export function isWeightsFile(name: string, variant: string | undefined): boolean {
  if (name === weightsFile(variant) || indexFiles(variant).includes(name)) return true;
  const part = String.raw`-\d{5}-of-\d{5}`;
  const stems =
    variant === undefined ? [`${STEM}${part}`] : [`${STEM}\\.${variant}${part}`, `${STEM}${part}\\.${variant}`];
  return stems.some((stem) => new RegExp(`^${stem}\\.safetensors$`).test(name));
}

/** The path of a folder's weights, or of their index if they are sharded (diffusers prefers it); undefined if none. */
export async function findWeights(folder: string, variant: string | undefined): Promise<string | undefined> {
  for (const name of [...indexFiles(variant), weightsFile(variant)]) {
    const path = join(folder, name);
    if (await isFile(path)) return path;
  }
  return undefined;
}

/** What a user can do about weights that were not found among `names`, the files of the same folder. */
export function adviceOnMissingWeights(names: readonly string[], variant: string | undefined, model?: string): string {
  const wanted = weightsFile(variant);
  const others = new Set(
    names.flatMap(
      (name) => new RegExp(`^${STEM}(?:\\.(\\w+))?(?:-\\d+-of-\\d+)?\\.safetensors$`).exec(name)?.[1] ?? [],
    ),
  );
  if (others.size > 0)
    return `there is no ${wanted}, but there are the variants ${[...others].join(', ')}: pass variant: '${[...others][0]}'`;
  if (variant !== undefined && names.some((name) => isWeightsFile(name, undefined)))
    return `there is no variant '${variant}': leave out the option variant`;
  const pickle = names.find((name) => PICKLE.test(name));
  return pickle === undefined ? `there is no ${wanted}` : adviceOnPickle(pickle, model);
}

export function isPickle(name: string): boolean {
  return PICKLE.test(name);
}

/** @param model what `from_pretrained` in Python takes. */
export function adviceOnPickle(name: string, model = '<model>'): string {
  return (
    `${name} is a pickle. Reading a pickle can run any code, so it is never opened here. Convert it once, in Python ` +
    `and only if you trust it: DDPMPipeline.from_pretrained('${model}').save_pretrained('./model', safe_serialization=True), and pass './model'`
  );
}
