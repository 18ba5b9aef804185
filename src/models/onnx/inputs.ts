import { InvalidArgumentError, OnnxFormatError } from '../../errors.ts';
import { type Fields, parseOptions } from '../../options.ts';
import * as z from '../../zod.ts';

/** The inputs of an ONNX file by what they are. Needed only where names and shapes do not tell them apart. */
export interface InputNames {
  /** The noisy sample; default the input `sample`, or the one of the highest rank. */
  readonly sample?: string | undefined;
  /** The timestep; default the input `timestep` or `timesteps`, or the one that is not the sample. */
  readonly timestep?: string | undefined;
  /** The class labels; default the input `class_labels`, or none. */
  readonly class_labels?: string | undefined;
  /** An image that the model is given beside the sample; default the input `condition`, or none. */
  readonly condition?: string | undefined;
}

/** For a config that names its inputs. */
export const inputNamesSchema = z.strictObject({
  sample: z.optional(z.string()),
  timestep: z.optional(z.string()),
  class_labels: z.optional(z.string()),
  condition: z.optional(z.string()),
} satisfies Fields<InputNames>);

const USUAL_NAMES: Readonly<Record<keyof InputNames, readonly string[]>> = {
  sample: ['sample'],
  timestep: ['timestep', 'timesteps'],
  class_labels: ['class_labels'],
  condition: ['condition'],
};

interface DeclaredInput {
  readonly name: string;
  readonly shape: readonly (number | string)[];
}

/** The inputs of a diffusion model. */
export interface DiffusionInputs<Input> {
  readonly sample: Input;
  readonly timestep: Input;
  readonly class_labels: Input | undefined;
  readonly condition: Input | undefined;
}

/**
 * Finds the inputs of a diffusion model by the given names, by the usual ones, or by their shapes: of two inputs the sample
 * has the higher rank, and a timestep is a scalar, [batch] or [batch, 1].
 *
 * @throws {OnnxFormatError} that lists the inputs, when they are others.
 * @throws {InvalidArgumentError} when there is no input of a given name, or `names` has another member.
 */
export function diffusionInputs<Input extends DeclaredInput>(
  inputs: readonly Input[],
  names: InputNames = {},
): DiffusionInputs<Input> {
  parseOptions(inputNamesSchema, names, 'input_names');
  const listed = inputs.map(({ name, shape }) => `${name} [${shape.join(', ')}]`).join(', ');
  const byName = (role: keyof InputNames) => {
    const given = names[role];
    const wanted = given === undefined ? USUAL_NAMES[role] : [given];
    const found = inputs.find(({ name }) => wanted.includes(name));
    if (given === undefined || found) return found;
    throw new InvalidArgumentError(`input_names.${role} is '${given}', but the inputs of the ONNX model are ${listed}`);
  };
  const [class_labels, condition] = [byName('class_labels'), byName('condition')];
  const named = [byName('sample'), byName('timestep')] as const;
  const others = inputs.filter((input) => ![class_labels, condition, ...named].includes(input));
  const sample = named[0] ?? soleHighest(others);
  const rest = others.filter((input) => input !== sample);
  const timestep = named[1] ?? (rest.length === 1 ? rest[0] : undefined);
  const all = [sample, timestep, class_labels, condition].filter((input) => input !== undefined);
  const areAll = new Set(all).size === all.length && all.length === inputs.length;
  if (sample && timestep && areAll && isTimestep(timestep)) return { sample, timestep, class_labels, condition };
  throw new OnnxFormatError(
    `the ONNX model has the inputs ${listed || 'none'}. A diffusion model takes a sample [batch, ...], a timestep that is a scalar, [batch] or [batch, 1], and perhaps class labels, and a condition of the size of the sample. Where shapes do not tell which is which, name them: input_names: { sample: '...', timestep: '...', class_labels: '...' }`,
  );
}

/** [batch, 1] comes between [batch] and [batch, features]. */
function rankOf({ shape }: DeclaredInput): number {
  return shape.length === 2 && shape[1] === 1 ? 1.5 : shape.length;
}

function isTimestep(input: DeclaredInput): boolean {
  return rankOf(input) < 2;
}

/** The input of the highest rank, where there is one only and it can be a batch of samples. */
function soleHighest<Input extends DeclaredInput>(inputs: readonly Input[]): Input | undefined {
  const highest = Math.max(...inputs.map(rankOf));
  const found = inputs.filter((input) => rankOf(input) === highest);
  return found.length === 1 && highest > 1 ? found[0] : undefined;
}
