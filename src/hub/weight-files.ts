import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidArgumentError } from '../errors.ts';
import { isFile } from '../files/regular-file.ts';

/*
 * How diffusers names weights: `diffusion_pytorch_model.safetensors`; of a variant, such as fp16,
 * `diffusion_pytorch_model.fp16.safetensors`; large models in shards `diffusion_pytorch_model-00001-of-00002.safetensors`
 * with `diffusion_pytorch_model.safetensors.index.json`, which says what lies in which.
 */
const STEM = 'diffusion_pytorch_model';
export const WEIGHTS_FILE = `${STEM}.safetensors`;
const VARIANT = /^[A-Za-z0-9_]+$/;
const PICKLE = /\.(bin|pt|pth|ckpt|pkl)$/i;

/** The name of a file of weights. @throws {InvalidArgumentError} when `variant` is no plain word. */
export function weightsFile(variant: string | undefined): string {
  if (variant === undefined) return WEIGHTS_FILE;
  if (!VARIANT.test(variant))
    throw new InvalidArgumentError(
      `variant '${variant}' must be a word of letters, digits and '_', such as 'fp16'`,
    );
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
    variant === undefined
      ? [`${STEM}${part}`]
      : [`${STEM}\\.${variant}${part}`, `${STEM}${part}\\.${variant}`];
  return stems.some((stem) => new RegExp(`^${stem}\\.safetensors$`).test(name));
}

/** The path of a folder's weights: of the index where they are sharded, as diffusers prefers; undefined: none. */
export async function findWeights(folder: string, variant: string | undefined): Promise<string | undefined> {
  for (const name of [...indexFiles(variant), weightsFile(variant)]) {
    const path = join(folder, name);
    if (await isFile(path)) return path;
  }
  return undefined;
}

/** What a user can do about weights that were not found among `names`, the files of the same folder. */
export function adviceOnMissingWeights(
  names: readonly string[],
  variant: string | undefined,
  model?: string,
): string {
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
    `${name} is a pickle, which can run any code when it is read, and is never opened here. Convert it once, in Python ` +
    `and only if you trust it: DDPMPipeline.from_pretrained('${model}').save_pretrained('./model', safe_serialization=True), and pass './model'`
  );
}

/** The names of a folder's files, for advice; none where it cannot be read. */
export async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
