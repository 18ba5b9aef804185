import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { FileFormatError, InvalidArgumentError } from '../errors.ts';
import {
  interruptedReplacement,
  syncDirectory,
  writeDirectoryAtomic,
  writeFileSynced,
} from '../files/atomic.ts';
import type { JsonObject } from '../files/json.ts';
import { readJsonFile, stringifySorted } from '../files/json.ts';
import { exists, isFile, isFolder } from '../files/regular-file.ts';
import { type NamedTensor, safetensorsChunks } from '../files/safetensors.ts';
import {
  adviceOnMissingWeights,
  adviceOnPickle,
  findWeights,
  isPickle,
  namesIn,
  weightsFile,
} from './weight-files.ts';

/** Where each part of a nested pipeline lies in its folder, as diffusers lays it out; `model.onnx` as transformers.js does. */
export const pipelineFiles = {
  modelIndex: 'model_index.json',
  unetConfig: 'unet/config.json',
  onnx: 'unet/model.onnx',
  weights: 'unet/diffusion_pytorch_model.safetensors',
  schedulerConfig: 'scheduler/scheduler_config.json',
  /** Of a flat folder, and of a model alone. */
  flatConfig: 'config.json',
} as const;

/** The names of the same files in their component's folder. */
const componentFiles = {
  config: 'config.json',
  onnx: 'model.onnx',
  schedulerConfig: 'scheduler_config.json',
} as const;

/**
 * `nested`: each component in a folder of its own, as diffusers saves a pipeline. `flat`: all in one folder, as
 * google/ddpm-* are published. diffusers loads both.
 */
export type PipelineLayout = 'nested' | 'flat';

/** The folders of the components. The averaged weights lie in `unet_ema` as the raw ones do in `unet`. */
const componentFolders = {
  nested: { unet: 'unet', unetEma: 'unet_ema', scheduler: 'scheduler' },
  flat: { unet: '', unetEma: 'unet_ema', scheduler: '' },
} as const;

const component = z.tuple([z.string(), z.string()]);
const modelIndexSchema = z.looseObject({
  _class_name: z.string().min(1),
  _diffusers_version: z.string().optional(),
  scheduler: component,
  unet: component,
});
const configSchema = z.looseObject({ _class_name: z.string().min(1) });

/** `model_index.json`: the pipeline's class, and for each component the library and class that load it. */
export type ModelIndex = JsonObject & {
  _class_name: string;
  _diffusers_version?: string | undefined;
  scheduler: [library: string, className: string];
  unet: [library: string, className: string];
};

/** A component's configuration: its class and that class's arguments. */
export type ComponentConfig = JsonObject & { _class_name: string };

/** One set of weights in both forms. */
export interface ModelFiles {
  /** The model in ONNX's binary form, or what makes it when it is its turn to be written. */
  readonly onnx: Uint8Array | (() => Uint8Array);
  readonly weights: ReadonlyMap<string, NamedTensor>;
}

export interface PipelineParts {
  readonly modelIndex: ModelIndex;
  readonly unetConfig: ComponentConfig;
  readonly unet: ModelFiles;
  /** The moving average of the weights. */
  readonly unetEma?: ModelFiles | undefined;
  readonly schedulerConfig: ComponentConfig;
  /** Further files by their path in the folder (`/` between folders), for instance `point_scaler.json`. */
  readonly extraFiles?: Readonly<Record<string, string | Uint8Array>> | undefined;
  /** Default 'nested'. */
  readonly layout?: PipelineLayout | undefined;
  /** Marks the files of weights, e.g. 'fp16': `diffusion_pytorch_model.fp16.safetensors`. */
  readonly variant?: string | undefined;
}

export interface ModelPaths {
  readonly onnx: string;
  /** The safetensors file, or the `.index.json` of a sharded model. */
  readonly weights: string;
}

export interface ReadPipelineOptions {
  /** The large files that must be there; default both. A folder of diffusers has no ONNX file. */
  readonly require?: readonly ('onnx' | 'weights')[];
  /** Which weights, e.g. 'fp16'; default those without a mark. */
  readonly variant?: string | undefined;
}

export interface PipelineFolder {
  /** Absolute path of the folder. */
  readonly dir: string;
  readonly modelIndex: ModelIndex;
  readonly unetConfig: ComponentConfig;
  readonly schedulerConfig: ComponentConfig;
  /** Absolute paths of the large files, which are left to their readers. */
  readonly paths: ModelPaths;
  /** The same of the averaged weights, where the folder has them. */
  readonly emaPaths: ModelPaths | undefined;
}

/**
 * Saves a pipeline as a folder that `pipeline()`, and for models diffusers knows also diffusers, can load. The folder
 * appears whole or not at all. One already there is replaced only if it is empty or a pipeline itself, and is kept
 * until the new one is in place. Weights are written tensor by tensor, without a copy of them.
 *
 * @throws InvalidArgumentError if `dir` holds something else, a part is malformed or a path leaves the folder.
 * @throws the operating system's error if the folder cannot be written.
 */
export async function savePipelineFolder(dir: string, parts: PipelineParts): Promise<void> {
  // Everything is checked, and all but ONNX serialised, before the first byte is written.
  const files = filesOf(parts);
  for (const [path, content] of Object.entries(parts.extraFiles ?? {})) {
    checkRelativePath(path);
    if (files.has(path))
      throw new InvalidArgumentError(`extraFiles would replace the pipeline's own ${path}.`);
    files.set(path, content);
  }
  await checkReplaceable(dir);
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
  const configText = stringifySorted(checked(unetConfig, configSchema, 'unetConfig'));
  const files = new Map<string, string | Uint8Array | Iterable<Uint8Array> | (() => Uint8Array)>([
    [pipelineFiles.modelIndex, stringifySorted(checked(modelIndex, modelIndexSchema, 'modelIndex'))],
    [
      inFolder(folders.scheduler, componentFiles.schedulerConfig),
      stringifySorted(checked(schedulerConfig, configSchema, 'schedulerConfig')),
    ],
  ]);
  const addModel = (folder: string, { onnx, weights }: ModelFiles) => {
    files.set(inFolder(folder, componentFiles.config), configText);
    files.set(inFolder(folder, componentFiles.onnx), onnx);
    files.set(inFolder(folder, weightsFile(variant)), safetensorsChunks(weights, { format: 'pt' }));
  };
  addModel(folders.unet, parts.unet);
  if (parts.unetEma) addModel(folders.unetEma, parts.unetEma);
  return files;
}

function inFolder(folder: string, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}

/**
 * Reads a saved pipeline folder: its JSON files, checked, and the paths of the others. As in diffusers, each component
 * is looked for in its own folder (`unet/`, `scheduler/`) and, where there is none, beside `model_index.json`. A folder
 * with a model alone (`config.json` and weights, no `model_index.json`) is read too; a scheduler that is missing there
 * is DDPM's with its defaults.
 *
 * @throws FileFormatError if the folder or a required file is missing; of weights it says what is there instead.
 * @throws ConfigError if a JSON file is missing or malformed.
 * @example const { unetConfig, paths } = await readPipelineFolder('./runs/swiss-roll/pipeline');
 */
export async function readPipelineFolder(
  dir: string,
  { require: required = ['onnx', 'weights'], variant }: ReadPipelineOptions = {},
): Promise<PipelineFolder> {
  const root = resolve(dir);
  await checkIsFolder(root);
  const modelAlone =
    !(await isFile(join(root, pipelineFiles.modelIndex))) &&
    (await isFile(join(root, componentFiles.config)));
  const component = async (name: 'unet' | 'scheduler') =>
    !modelAlone && (await isFolder(join(root, name))) ? join(root, name) : root;
  const [unetFolder, schedulerFolder] = [await component('unet'), await component('scheduler')];
  const givenIndex = modelAlone
    ? undefined
    : await readJsonFile(join(root, pipelineFiles.modelIndex), modelIndexSchema);
  const unetConfig = await readJsonFile(join(unetFolder, componentFiles.config), configSchema);
  const schedulerFile = join(schedulerFolder, componentFiles.schedulerConfig);
  const schedulerConfig =
    modelAlone && !(await isFile(schedulerFile))
      ? { _class_name: 'DDPMScheduler' }
      : await readJsonFile(schedulerFile, configSchema);
  const modelIndex = givenIndex ?? {
    _class_name: 'DDPMPipeline',
    scheduler: ['diffusers', schedulerConfig._class_name],
    unet: ['diffusers', unetConfig._class_name],
  };
  const emaFolder = join(root, componentFolders.nested.unetEma);
  const emaWeights = await findWeights(emaFolder, variant);
  return {
    dir: root,
    modelIndex: modelIndex as ModelIndex,
    unetConfig: unetConfig as ComponentConfig,
    schedulerConfig: schedulerConfig as ComponentConfig,
    paths: await modelPaths(unetFolder, required, variant),
    emaPaths:
      emaWeights === undefined
        ? undefined
        : { onnx: join(emaFolder, componentFiles.onnx), weights: emaWeights },
  };
}

async function modelPaths(
  folder: string,
  required: readonly ('onnx' | 'weights')[],
  variant: string | undefined,
): Promise<ModelPaths> {
  const onnx = join(folder, componentFiles.onnx);
  const weights = await findWeights(folder, variant);
  if (required.includes('onnx') && !(await isFile(onnx)))
    throw new FileFormatError(`The pipeline lacks its file ${onnx}.`);
  if (required.includes('weights') && weights === undefined)
    throw new FileFormatError(
      `The pipeline lacks its file ${join(folder, weightsFile(variant))}: ${adviceOnMissingWeights(await namesIn(folder), variant)}.`,
    );
  return { onnx, weights: weights ?? join(folder, weightsFile(variant)) };
}

function checked<T extends JsonObject>(value: T, schema: z.ZodType, name: string): T {
  const result = schema.safeParse(value);
  if (!result.success)
    throw new InvalidArgumentError(`${name} is malformed:\n${z.prettifyError(result.error)}`);
  return value;
}

/** Refuses every path that could lie outside the folder, on any system, or that is not in its plainest form. */
function checkRelativePath(path: string): void {
  const segments = path.split('/');
  const unsafe =
    /[\\:\0]/.test(path) || segments.some((part) => part === '' || part === '.' || part === '..');
  if (unsafe) {
    throw new InvalidArgumentError(
      `extraFiles has the path ${JSON.stringify(path)}; it must be relative, inside the folder, with "/" between names.`,
    );
  }
}

async function checkReplaceable(dir: string): Promise<void> {
  if (!(await exists(dir))) return;
  if (!(await isFolder(dir)))
    throw new InvalidArgumentError(`${dir} is a file; a pipeline is saved as a folder.`);
  const names = await readdir(dir);
  if (names.length > 0 && !names.includes(pipelineFiles.modelIndex)) {
    throw new InvalidArgumentError(
      `${dir} holds files but no ${pipelineFiles.modelIndex}, so it is not replaced. Choose a new or empty folder.`,
    );
  }
}

async function checkIsFolder(dir: string): Promise<void> {
  if (await isFolder(dir)) return;
  if (isPickle(dir)) throw new FileFormatError(`${adviceOnPickle(dir)}.`);
  const old = await interruptedReplacement(dir);
  const hint =
    old === undefined ? '' : ` An interrupted save left its former content in ${old}; rename it back.`;
  throw new FileFormatError(`${dir} is not a folder, so no pipeline can be read from it.${hint}`);
}
