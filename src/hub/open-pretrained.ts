import { downloadSnapshot } from '#hub/download';
import { readdir } from '#platform/fs';
import { dirname, isAbsolute, join, resolve } from '#platform/path';
import { FileFormatError, InvalidArgumentError } from '../errors.ts';
import { interruptedReplacement } from '../files/atomic.ts';
import { readJsonFile } from '../files/json.ts';
import { isFile, isFolder } from '../files/regular-file.ts';
import { type Fields, functionOption } from '../options.ts';
import * as z from '../zod.ts';
import { allowsLocalModels, localModelFolder, refuseLocalModel } from './environment.ts';
import { HUB_ID, type HubOptions, type OnnxDtype } from './hub-options.ts';
import {
  adviceOnMissingWeights,
  adviceOnPickle,
  autoencoderIn,
  type ComponentConfig,
  componentFolders,
  configSchema,
  findWeights,
  isPickle,
  modelIndexSchema,
  onnxFiles,
  pipelineFiles,
  weightsFile,
} from './pipeline-folder.ts';

/* Finds the folder that a `model` argument names, a local one or one of the Hub, and reads it. */

/** How a model is found, named as transformers.js and diffusers name it. */
export type PretrainedOptions = Pick<
  HubOptions,
  'revision' | 'variant' | 'cache_dir' | 'local_files_only' | 'progress_callback' | 'token'
>;

/** How one is opened: `dtype` chooses the ONNX file. */
export type OpenOptions = PretrainedOptions & Pick<HubOptions, 'dtype'>;

export const pretrainedShape = {
  revision: z.optional(z.string()),
  variant: z.optional(z.string()),
  cache_dir: z.nullish(z.string()),
  local_files_only: z.optional(z.boolean()),
  progress_callback: z.optional(functionOption<NonNullable<HubOptions['progress_callback']>>()),
  token: z.optional(z.string()),
} satisfies Fields<PretrainedOptions>;

/**
 * Opens the pipeline that a `model` argument names; see {@link pipelineFolderOf}.
 *
 * @param options.require see `readPipelineFolder`; default the weights.
 * @throws {FileFormatError} when the folder or a required file is missing.
 */
export async function openPretrained(
  model: string | null | undefined,
  { require = ['weights'], ...options }: OpenOptions & Pick<ReadPipelineOptions, 'require'> = {},
): Promise<PipelineFolder> {
  const { variant, dtype } = options;
  return readPipelineFolder(await pipelineFolderOf(model, options), { require, variant, dtype });
}

/**
 * The folder that a `model` argument names, by transformers.js's convention: what begins with `./`, `../` or `/` is a
 * local path, `owner/name` is a Hub id, which is downloaded. A relative path without the dot is local too if a pipeline
 * lies there, or in `env.localModelPath`. With `env.allowLocalModels = false` there is the Hub only.
 *
 * @throws {InvalidArgumentError} when nothing was named, or what is neither a path nor a Hub id.
 * @throws {HubError} when the download fails.
 * @throws {FileFormatError} when a pickle was named: pickles are never opened; or the folder of a training run.
 */
export async function pipelineFolderOf(model: string | null | undefined, options: OpenOptions = {}): Promise<string> {
  if (typeof model !== 'string' || model === '')
    throw new InvalidArgumentError(
      "no model was named: pass the folder of a saved pipeline, such as './runs/swiss-roll/pipeline', or a Hub id",
    );
  if (/^\.{1,2}([/\\]|$)/.test(model) || isAbsolute(model)) {
    refuseLocalModel(model);
    return model;
  }
  if (isPickle(model)) throw new FileFormatError(adviceOnPickle(model));
  if (allowsLocalModels()) {
    for (const folder of [model, localModelFolder(model)])
      if (folder !== undefined && (await isPipelineFolder(folder))) return folder;
    if (await isFolder(model)) await refuseRunFolder(model);
  }
  if (!HUB_ID.test(model))
    throw new InvalidArgumentError(
      `there is no saved pipeline at ${resolve(model)}, and '${model}' is not a Hub id of the form owner/name`,
    );
  return downloadSnapshot(model, options);
}

/** Whether a folder holds a pipeline, or a model alone. */
export async function isPipelineFolder(folder: string): Promise<boolean> {
  return (await isFile(join(folder, pipelineFiles.modelIndex))) || (await isFile(join(folder, pipelineFiles.config)));
}

/** A large file of a model: its ONNX graph, or its safetensors. */
export type ModelFile = 'onnx' | 'weights';

/** Absolute paths of a model's large files, which may be missing; see {@link requireFiles}. */
export interface ModelPaths {
  readonly onnx: string;
  /** The safetensors file, or the `.index.json` of a sharded model. */
  readonly weights: string;
}

export interface ReadPipelineOptions {
  /** The large files that must be there; default both. A folder of diffusers has no ONNX file. */
  readonly require?: readonly ModelFile[] | undefined;
  /** The variant of the weights, e.g. 'fp16'; default none. */
  readonly variant?: string | undefined;
  /** Which ONNX file `paths` names; default 'fp32'. */
  readonly dtype?: OnnxDtype | null | undefined;
}

/** The contents of a pipeline folder, without its large files. */
export interface PipelineFolder {
  /** Absolute path of the folder. */
  readonly dir: string;
  readonly unetConfig: ComponentConfig;
  readonly schedulerConfig: ComponentConfig;
  readonly paths: ModelPaths;
  /** The paths of the averaged weights, if the folder has them. */
  readonly emaPaths: ModelPaths | undefined;
  /** The variant that was asked for. */
  readonly variant: string | undefined;
  /** Absolute path of the folder of what turns what the model draws into images, where the pipeline has it. */
  readonly autoencoder: string | undefined;
}

/**
 * Reads a saved pipeline folder: its JSON files, checked, and the paths of the others. As in diffusers, each component
 * is in its own folder (`unet/`, `scheduler/`) or else beside `model_index.json`. A folder with a model alone
 * (`config.json` and weights, no `model_index.json`) is read too; its scheduler defaults to DDPM's with its defaults.
 *
 * @throws {FileFormatError} when the folder or a required file is missing; for weights it says which others there are.
 * @throws {ConfigError} when a JSON file is missing or malformed.
 * @example const { unetConfig, paths } = await readPipelineFolder('./runs/swiss-roll/pipeline');
 */
export async function readPipelineFolder(
  dir: string,
  { require: required = ['onnx', 'weights'], variant, dtype }: ReadPipelineOptions = {},
): Promise<PipelineFolder> {
  const root = resolve(dir);
  await checkIsFolder(root);
  const modelAlone =
    !(await isFile(join(root, pipelineFiles.modelIndex))) && (await isFile(join(root, pipelineFiles.config)));
  const component = async (name: 'unet' | 'scheduler') =>
    !modelAlone && (await isFolder(join(root, name))) ? join(root, name) : root;
  const [unetFolder, schedulerFolder] = [await component('unet'), await component('scheduler')];
  const index = modelAlone ? {} : await readJsonFile(join(root, pipelineFiles.modelIndex), modelIndexSchema);
  const unetConfig = await readJsonFile(join(unetFolder, pipelineFiles.config), configSchema);
  const schedulerFile = join(schedulerFolder, pipelineFiles.schedulerConfig);
  const schedulerConfig =
    modelAlone && !(await isFile(schedulerFile))
      ? { _class_name: 'DDPMScheduler' }
      : // diffusers' DPMSolverMultistepScheduler saves lambda_min_clipped as -Infinity.
        await readJsonFile(schedulerFile, configSchema, { infinities: true });
  const emaFolder = join(root, componentFolders.nested.unetEma);
  const emaWeights = await findWeights(emaFolder, variant);
  const weights = (await findWeights(unetFolder, variant)) ?? join(unetFolder, weightsFile(variant));
  const folder: PipelineFolder = {
    dir: root,
    unetConfig: unetConfig as ComponentConfig,
    schedulerConfig: schedulerConfig as ComponentConfig,
    paths: { onnx: await onnxOf(unetFolder, root, dtype), weights },
    emaPaths: emaWeights ? { onnx: await onnxOf(emaFolder, root, dtype), weights: emaWeights } : undefined,
    variant,
    autoencoder: await autoencoderOf(root, index),
  };
  await requireFiles(folder, required);
  return folder;
}

/** @throws {FileFormatError} when the index names one, but there is no folder for it. */
async function autoencoderOf(root: string, index: object): Promise<string | undefined> {
  const name = autoencoderIn(index);
  if (name === undefined) return undefined;
  const folder = join(root, name);
  if (await isFolder(folder)) return folder;
  throw new FileFormatError(
    `${join(root, pipelineFiles.modelIndex)} names the component '${name}', which decodes what the U-Net draws, but the folder ${folder} is missing`,
  );
}

/** The ONNX file of a model; in the layout `transformers.js` one of the models has it beside the components. */
async function onnxOf(folder: string, root: string, dtype: OnnxDtype | null | undefined): Promise<string> {
  const [ownFile, sharedFile] = onnxFiles(dtype);
  const [own, shared] = [join(folder, ownFile), join(root, sharedFile)];
  return !(await isFile(own)) && (await isFile(shared)) ? shared : own;
}

/**
 * Makes sure that the model's large files are there. Some readers learn from the configurations which of them they need.
 *
 * @throws {FileFormatError} when one is missing; for weights it says which others there are.
 */
export async function requireFiles({ paths, variant }: PipelineFolder, required: readonly ModelFile[]): Promise<void> {
  for (const kind of required) {
    if (await isFile(paths[kind])) continue;
    const names = await readdir(dirname(paths[kind])).catch(() => []);
    const advice = kind === 'weights' ? `: ${adviceOnMissingWeights(names, variant)}` : '';
    throw new FileFormatError(`The pipeline lacks its file ${paths[kind]}${advice}.`);
  }
}

async function checkIsFolder(dir: string): Promise<void> {
  if (await isFolder(dir)) return refuseRunFolder(dir);
  if (isPickle(dir)) throw new FileFormatError(`${adviceOnPickle(dir)}.`);
  const old = await interruptedReplacement(dir);
  const hint = old === undefined ? '' : ` An interrupted save left its former content in ${old}; rename it back.`;
  throw new FileFormatError(`${dir} is not a folder, so no pipeline can be read from it.${hint}`);
}

/** Both are easily mistaken for the pipeline, which a training run saves apart. */
async function refuseRunFolder(dir: string): Promise<void> {
  if (await isPipelineFolder(dir)) return;
  const names = await readdir(dir);
  const inside: string[] = [];
  for (const name of names) if (await isFile(join(dir, name, pipelineFiles.modelIndex))) inside.push(join(dir, name));
  if (inside.length > 0)
    throw new FileFormatError(`${dir} is no pipeline itself, but holds one: pass ${inside.join(' or ')}`);
  const isRun = names.some((name) => /^checkpoint-\d+$/.test(name));
  if (!isRun && !names.includes('trainer_state.json')) return;
  throw new FileFormatError(
    `${dir} is ${isRun ? 'the folder of a training run' : 'a checkpoint of a training run'}, which holds no pipeline: continue the run (resume_from_checkpoint, or train --resume), save its pipeline (trainer.savePipeline), and pass that folder`,
  );
}
