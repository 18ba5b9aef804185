import { mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { FileFormatError, InvalidArgumentError } from '../errors.ts';
import {
  interruptedReplacement,
  syncDirectory,
  writeDirectoryAtomic,
  writeFileSynced,
} from './atomic-file.ts';
import { readJsonFile, stringifySorted } from './json-file.ts';
import type { JsonObject } from './json-text.ts';
import { type NamedTensor, safetensorsChunks } from './safetensors.ts';

/** Where each part of a pipeline lies in its folder, as diffusers lays it out; `model.onnx` as transformers.js does. */
export const pipelineFiles = {
  modelIndex: 'model_index.json',
  unetConfig: 'unet/config.json',
  onnx: 'unet/model.onnx',
  weights: 'unet/diffusion_pytorch_model.safetensors',
  schedulerConfig: 'scheduler/scheduler_config.json',
  /** A flat folder, as a model alone is published, has these beside each other. */
  flatConfig: 'config.json',
  flatOnnx: 'model.onnx',
  flatWeights: 'diffusion_pytorch_model.safetensors',
  flatSchedulerConfig: 'scheduler_config.json',
} as const;

/** The averaged weights lie in `unet_ema` as the raw ones do in `unet`. */
export const emaPath = (unetPath: string) => unetPath.replace(/^unet\//, 'unet_ema/');

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
  _diffusers_version?: string;
  scheduler: [library: string, className: string];
  unet: [library: string, className: string];
};

/** A component's configuration: its class and that class's arguments. */
export type ComponentConfig = JsonObject & { _class_name: string };

/** One set of weights in both forms. */
export interface ModelFiles {
  /** The model in ONNX's binary form. */
  readonly onnx: Uint8Array;
  readonly weights: ReadonlyMap<string, NamedTensor>;
}

export interface PipelineParts {
  readonly modelIndex: ModelIndex;
  readonly unetConfig: ComponentConfig;
  readonly unet: ModelFiles;
  /** The moving average of the weights. */
  readonly unetEma?: ModelFiles;
  readonly schedulerConfig: ComponentConfig;
  /** Further files by their path in the folder (`/` between folders), for instance `point_scaler.json`. */
  readonly extraFiles?: Readonly<Record<string, string | Uint8Array>>;
}

export interface ModelPaths {
  readonly onnx: string;
  readonly weights: string;
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
 * until the new one is in place.
 *
 * @throws InvalidArgumentError if `dir` holds something else, a part is malformed or a path leaves the folder.
 * @throws the operating system's error if the folder cannot be written.
 */
export async function savePipelineFolder(dir: string, parts: PipelineParts): Promise<void> {
  // Everything is checked and serialised before the first byte is written.
  const files = new Map<string, string | Uint8Array | Iterable<Uint8Array>>([
    [pipelineFiles.modelIndex, stringifySorted(checked(parts.modelIndex, modelIndexSchema, 'modelIndex'))],
    [pipelineFiles.unetConfig, stringifySorted(checked(parts.unetConfig, configSchema, 'unetConfig'))],
    [
      pipelineFiles.schedulerConfig,
      stringifySorted(checked(parts.schedulerConfig, configSchema, 'schedulerConfig')),
    ],
    [pipelineFiles.onnx, parts.unet.onnx],
    [pipelineFiles.weights, safetensorsChunks(parts.unet.weights, { format: 'pt' })],
  ]);
  if (parts.unetEma) {
    files.set(emaPath(pipelineFiles.unetConfig), stringifySorted(parts.unetConfig));
    files.set(emaPath(pipelineFiles.onnx), parts.unetEma.onnx);
    files.set(emaPath(pipelineFiles.weights), safetensorsChunks(parts.unetEma.weights, { format: 'pt' }));
  }
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
      await writeFileSynced(target, content);
      folders.add(dirname(target));
    }
    for (const folder of folders) await syncDirectory(folder);
  });
}

/**
 * Reads a saved pipeline folder: its JSON files, checked, and the paths of the others.
 *
 * @param options.require the large files that must be there (default both; a folder of diffusers has no ONNX file).
 * @throws FileFormatError if the folder or a required file is missing.
 * @throws ConfigError if a JSON file is missing or malformed.
 * @example const { unetConfig, paths } = await readPipelineFolder('./runs/swiss-roll/pipeline');
 */
export async function readPipelineFolder(
  dir: string,
  options: { require?: readonly ('onnx' | 'weights')[] } = {},
): Promise<PipelineFolder> {
  const root = resolve(dir);
  await checkIsFolder(root);
  const required = options.require ?? (['onnx', 'weights'] as const);
  if (
    !(await isFile(join(root, pipelineFiles.modelIndex))) &&
    (await isFile(join(root, pipelineFiles.flatConfig)))
  )
    return readFlatFolder(root, required);
  const modelIndex = await readJsonFile(join(root, pipelineFiles.modelIndex), modelIndexSchema);
  const unetConfig = await readJsonFile(join(root, pipelineFiles.unetConfig), configSchema);
  const schedulerConfig = await readJsonFile(join(root, pipelineFiles.schedulerConfig), configSchema);
  const paths = { onnx: join(root, pipelineFiles.onnx), weights: join(root, pipelineFiles.weights) };
  const emaPaths = {
    onnx: join(root, emaPath(pipelineFiles.onnx)),
    weights: join(root, emaPath(pipelineFiles.weights)),
  };
  for (const name of required) await checkIsFile(paths[name], root);
  return {
    dir: root,
    modelIndex: modelIndex as ModelIndex,
    unetConfig: unetConfig as ComponentConfig,
    schedulerConfig: schedulerConfig as ComponentConfig,
    paths,
    emaPaths: (await isFile(emaPaths.weights)) ? emaPaths : undefined,
  };
}

/** A folder with a model alone, with or without a scheduler: what is missing takes DDPM's place. */
async function readFlatFolder(
  root: string,
  required: readonly ('onnx' | 'weights')[],
): Promise<PipelineFolder> {
  const unetConfig = await readJsonFile(join(root, pipelineFiles.flatConfig), configSchema);
  const schedulerFile = join(root, pipelineFiles.flatSchedulerConfig);
  const schedulerConfig = (await isFile(schedulerFile))
    ? await readJsonFile(schedulerFile, configSchema)
    : { _class_name: 'DDPMScheduler' };
  const paths = { onnx: join(root, pipelineFiles.flatOnnx), weights: join(root, pipelineFiles.flatWeights) };
  for (const name of required) await checkIsFile(paths[name], root);
  return {
    dir: root,
    modelIndex: {
      _class_name: 'DDPMPipeline',
      scheduler: ['diffusers', schedulerConfig._class_name],
      unet: ['diffusers', unetConfig._class_name],
    },
    unetConfig: unetConfig as ComponentConfig,
    schedulerConfig: schedulerConfig as ComponentConfig,
    paths,
    emaPaths: undefined,
  };
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
  const status = await stat(dir).catch(() => undefined);
  if (status === undefined) return;
  if (!status.isDirectory())
    throw new InvalidArgumentError(`${dir} is a file; a pipeline is saved as a folder.`);
  const names = await readdir(dir);
  if (names.length > 0 && !names.includes(pipelineFiles.modelIndex)) {
    throw new InvalidArgumentError(
      `${dir} holds files but no ${pipelineFiles.modelIndex}, so it is not replaced. Choose a new or empty folder.`,
    );
  }
}

async function checkIsFolder(dir: string): Promise<void> {
  const status = await stat(dir).catch(() => undefined);
  if (status?.isDirectory()) return;
  const old = await interruptedReplacement(dir);
  const hint =
    old === undefined ? '' : ` An interrupted save left its former content in ${old}; rename it back.`;
  throw new FileFormatError(`${dir} is not a folder, so no pipeline can be read from it.${hint}`);
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

async function checkIsFile(path: string, root: string): Promise<void> {
  if (!(await isFile(path))) throw new FileFormatError(`The pipeline in ${root} lacks its file ${path}.`);
}
