// Samples that are given: a reverse process begins from them with noise on top (SDEdit, Meng et al. 2022), or keeps a part of
// them (RePaint, Lugmayr et al. 2022).

import { InvalidArgumentError } from '../../errors.ts';
import { type Fields, numberOption } from '../../options.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import { sumOf } from '../../schedulers/solvers/solver.ts';
import type { NoiseLevel } from '../../schedulers/steps.ts';
import * as z from '../../zod.ts';

/** How far an image or a point is noised before it is drawn anew, and which part of it stays. */
export interface EditOptions {
  /**
   * How much of what is given is drawn anew, 0 (nothing) to 1: of N steps the last floor(strength N) are taken, from what is
   * given with as much noise as there is at the first of them. Default 0.8, with a mask 1.
   */
  readonly strength?: number | undefined;
  /** With a mask: steps that are repeated at a time, 1 or more; default 10. */
  readonly jump_length?: number | undefined;
  /** With a mask: how often steps are taken, 1 or more; 1 repeats none. Default 10. */
  readonly jump_n_sample?: number | undefined;
}

/** The types alone. */
export const editShape = {
  strength: z.optional(numberOption),
  jump_length: z.optional(numberOption),
  jump_n_sample: z.optional(numberOption),
} satisfies Fields<EditOptions>;

/** How given samples are used. */
export interface EditSettings {
  readonly strength: number;
  readonly jump_length: number;
  readonly jump_n_sample: number;
}

/** Given samples in model units, and how they are used. */
export interface Edit extends EditSettings {
  /** [1 or count, ...sampleShape]: one for all samples of a call, or one for each. */
  readonly samples: Float32Array;
  /** As `samples`: 1 where a value is drawn anew, 0 where it is kept. Undefined: all are drawn anew. */
  readonly mask: Uint8Array | undefined;
}

/**
 * @param given the names of the options for samples and mask, where they were given.
 * @returns undefined where no samples are given.
 * @throws {InvalidArgumentError} when a value is out of range, or there is nothing that it could be for.
 */
export function readEditSettings(
  options: EditOptions,
  { samples, mask }: { readonly samples: [name: string, isGiven: boolean]; readonly mask: [string, boolean] },
): EditSettings | undefined {
  const { strength = mask[1] ? 1 : 0.8, jump_length = 10, jump_n_sample = 10 } = options;
  const unused = (name: string, needed: string) => {
    throw new InvalidArgumentError(`${name} was given without ${needed}, which it is for`);
  };
  if (!samples[1] && mask[1]) unused(mask[0], samples[0]);
  if (!samples[1] && options.strength !== undefined) unused('strength', samples[0]);
  for (const name of ['jump_length', 'jump_n_sample'] as const)
    if (!mask[1] && options[name] !== undefined) unused(name, mask[0]);
  if (!(strength >= 0 && strength <= 1))
    throw new InvalidArgumentError(`strength is ${strength}, but must be in [0, 1]`);
  for (const [name, value] of Object.entries({ jump_length, jump_n_sample }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InvalidArgumentError(`${name} is ${value}, but must be an integer of at least 1`);
  return samples[1] ? { strength, jump_length, jump_n_sample } : undefined;
}

/** The rows of an edit for samples first .. first + count - 1 of a call, [count, ...sampleShape]. */
export function editOf(edit: Edit, first: number, count: number, size: number): Edit {
  const rows = <Values extends Float32Array | Uint8Array>(values: Values, target: Values): Values => {
    const given = values.length / size;
    for (let i = 0; i < count; i++) {
      const row = given === 1 ? 0 : first + i;
      target.set(values.subarray(row * size, (row + 1) * size), i * size);
    }
    return target;
  };
  const length = count * size;
  const mask = edit.mask && rows(edit.mask, new Uint8Array(length));
  return { ...edit, samples: rows(edit.samples, new Float32Array(length)), mask };
}

/**
 * The entries of a started scheduler's `timesteps` that are evaluated, in order. With a mask the process goes back, to an entry
 * that is not after the one before.
 */
export function visitedEntries({ timesteps, stepStarts }: Scheduler, edit: Edit | undefined): number[] {
  if (!edit) return timesteps.map((_, index) => index);
  const kept = stepStarts.slice(stepStarts.length - Math.floor(stepStarts.length * edit.strength));
  const steps = kept.map((start, i) => range(start, kept[i + 1] ?? timesteps.length));
  const order = edit.mask ? resampled(steps.length, edit) : range(0, steps.length);
  return order.flatMap((step) => steps[step] ?? []);
}

/** The steps in the order of RePaint, with the jumps of diffusers' RePaintScheduler. */
function resampled(count: number, { jump_length, jump_n_sample }: EditSettings): number[] {
  const repeats = new Map<number, number>();
  for (let left = 0; left < count - jump_length; left += jump_length) repeats.set(count - 1 - left, jump_n_sample - 1);
  const order: number[] = [];
  for (let step = 0; step < count; step++) {
    order.push(step);
    const more = repeats.get(step) ?? 0;
    repeats.set(step, more - 1);
    if (more > 0) step -= jump_length;
  }
  return order;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** Of what a sample is made before an entry of `timesteps`; after the last it is clean. */
export function levelBefore(scheduler: Scheduler, entry: number): NoiseLevel {
  return entry < scheduler.timesteps.length ? scheduler.noiseLevel(entry) : { signal: 1, noise: 0 };
}

/** What a process begins with at `entry`: what is given, with noise. With a mask and strength 1 it is noise alone, as in RePaint. */
export function editedStart(edit: Edit, normals: Float32Array, scheduler: Scheduler, entry: number): Float32Array {
  if (edit.mask && edit.strength === 1) return sumOf([scheduler.init_noise_sigma, normals]);
  const { signal, noise } = levelBefore(scheduler, entry);
  return sumOf([signal, edit.samples], [noise, normals]);
}

/** RePaint, algorithm 1, line 8: the kept part at the level that the sample has reached. */
export function withKept(
  sample: Float32Array,
  { samples, mask }: Edit,
  { signal, noise }: NoiseLevel,
  fillNormal: () => Float32Array,
): Float32Array {
  if (!mask) return sample;
  const kept = noise === 0 ? sumOf([signal, samples]) : sumOf([signal, samples], [noise, fillNormal()]);
  return sample.map((value, i) => (mask[i] ? value : (kept[i] as number)));
}

/** RePaint, algorithm 1, line 10, for several steps at once: a sample with so much more noise that it is back at `to`. */
export function noisedAgain(
  sample: Float32Array,
  from: NoiseLevel,
  to: NoiseLevel,
  normals: Float32Array,
): Float32Array {
  const kept = to.signal / from.signal;
  const variance = Math.max(to.noise ** 2 - (kept * from.noise) ** 2, 0);
  return sumOf([kept, sample], [Math.sqrt(variance), normals]);
}
