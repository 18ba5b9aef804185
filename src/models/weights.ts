import { ConfigError, NonFiniteWeightsError } from '../errors.ts';
import { type FloatTensorInfo, floatTensorInfos, readFloatTensors } from '../files/float-tensors.ts';
import { elementCount, formatShape, sameShape } from '../graph/types.ts';
import type { DiffusionModel } from './model.ts';

/**
 * The weights of a model from a safetensors file, of any floating-point type, or from the `.index.json` of a sharded
 * one. Names and shapes are compared first, strictly, as torch's `load_state_dict(strict=True)` does; then each tensor
 * is read straight into its array.
 *
 * @throws {ConfigError} when the file has other tensors than the model, with what differs.
 * @throws {SafetensorsError} when a file is missing, truncated or malformed.
 */
export async function readModelWeights(
  model: Pick<DiffusionModel, 'config' | 'parameters'>,
  file: string,
): Promise<Map<string, Float32Array>> {
  return readLocatedWeights(file, await locateModelWeights(model, file));
}

/** A parameter in a file. */
export interface LocatedWeight extends FloatTensorInfo {
  /** The name of its tensor, which may be an older one. */
  readonly storedName: string;
}

/** Where the weights of a model lie, by parameter in the order of the model. Errors as {@link readModelWeights}. */
export async function locateModelWeights(
  model: Pick<DiffusionModel, 'config' | 'parameters'>,
  file: string,
): Promise<Map<string, LocatedWeight>> {
  const names = new Set(model.parameters.map(({ name }) => name));
  const found = new Map<string, LocatedWeight>();
  const unknown: string[] = [];
  for (const [storedName, info] of await floatTensorInfos(file)) {
    const name = currentParameterName(storedName);
    if (!names.has(name) || found.has(name)) unknown.push(storedName);
    else found.set(name, { ...info, storedName });
  }
  refuseDifferences(model, found, unknown, file);
  return new Map(
    [...names].flatMap((name) => {
      const weight = found.get(name);
      return weight ? [[name, weight]] : [];
    }),
  );
}

/** Reads weights that `locateModelWeights` found in `file`, or some of them. Errors as {@link readModelWeights}. */
export async function readLocatedWeights(
  file: string,
  located: ReadonlyMap<string, LocatedWeight>,
): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  const destinations = new Map<string, Float32Array>();
  for (const [name, { shape, storedName }] of located) {
    const target = new Float32Array(elementCount(shape));
    weights.set(name, target);
    destinations.set(storedName, target);
  }
  await readFloatTensors(file, destinations);
  return weights;
}

function refuseDifferences(
  { parameters, config }: Pick<DiffusionModel, 'config' | 'parameters'>,
  found: ReadonlyMap<string, LocatedWeight>,
  unknown: readonly string[],
  file: string,
): void {
  const missing = parameters.filter(({ name }) => !found.has(name)).map(({ name }) => name);
  const misshapen = parameters.flatMap(({ name, shape }) => {
    const stored = found.get(name)?.shape;
    return stored && !sameShape(stored, shape)
      ? [`${name} ${formatShape(stored)} instead of ${formatShape(shape)}`]
      : [];
  });
  const listed = (what: string, names: readonly string[]) =>
    names.length === 0
      ? []
      : [`${what} ${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}`];
  const differences = [
    ...listed('lacks', missing),
    ...listed('has besides', unknown),
    ...listed('has of another shape', misshapen),
  ];
  if (differences.length > 0)
    throw new ConfigError(
      `${file} does not fit the ${config._class_name} of its config: it ${differences.join('; it ')}`,
    );
}

const legacyNames: readonly (readonly [RegExp, string])[] = [
  [/\.query\.(weight|bias)$/, '.to_q.$1'],
  [/\.key\.(weight|bias)$/, '.to_k.$1'],
  [/\.value\.(weight|bias)$/, '.to_v.$1'],
  [/\.proj_attn\.(weight|bias)$/, '.to_out.0.$1'],
];

/** The present name of a parameter: attention was named otherwise before diffusers 0.15, as in google/ddpm-*. */
export function currentParameterName(name: string): string {
  for (const [pattern, replacement] of legacyNames) if (pattern.test(name)) return name.replace(pattern, replacement);
  return name;
}

/** @throws {NonFiniteWeightsError} that names the first parameter with a NaN or an infinity. */
export function refuseNonFiniteWeights(weights: ReadonlyMap<string, Float32Array>): void {
  for (const [name, values] of weights) {
    const index = values.findIndex((value) => !Number.isFinite(value));
    if (index < 0) continue;
    throw new NonFiniteWeightsError(
      `the model is not saved, because '${name}' has ${values[index]} at index ${index}: training diverged. Resume from a checkpoint with a lower learning_rate or with max_grad_norm`,
    );
  }
}
