import { CheckpointError } from '../../errors.ts';
import type { ResolvedTrainingArguments } from '../training-arguments.ts';

/** All that decides the numbers of a run. A checkpoint can only be continued by a run of the same identity. */
export interface RunIdentity {
  readonly model: unknown;
  readonly loss: unknown;
  readonly noise_scheduler: unknown;
  readonly dataset_sha256: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** Arguments that may change between a run and its continuation: they do not change what a step computes. */
const FREE_ARGUMENTS = new Set([
  'output_dir',
  'num_train_epochs',
  'max_steps',
  'device',
  'gradient_checkpointing',
  'logging_steps',
  'save_steps',
  'save_total_limit',
  'report_to',
]);

export function runIdentity(parts: Omit<RunIdentity, 'arguments'>, args: ResolvedTrainingArguments): RunIdentity {
  const deciding = Object.entries(args).filter(([name]) => !FREE_ARGUMENTS.has(name));
  return { ...parts, arguments: Object.fromEntries(deciding) };
}

/** @throws {CheckpointError} that lists what differs between the checkpoint's run and this one. */
export function refuseOtherRun(saved: unknown, current: RunIdentity, where: string): void {
  const savedParts = flattened(saved);
  const currentParts = flattened(current);
  const names = new Set([...savedParts.keys(), ...currentParts.keys()]);
  const differing = [...names].filter((name) => savedParts.get(name) !== currentParts.get(name));
  if (differing.length === 0) return;
  const list = differing
    .slice(0, 8)
    .map((name) => `${name}: ${savedParts.get(name) ?? 'absent'} there, ${currentParts.get(name) ?? 'absent'} here`);
  throw new CheckpointError(
    `${where} is of another run: ${list.join('; ')}. Resume with the same settings, or choose another output_dir`,
  );
}

function flattened(value: unknown, prefix = '', into = new Map<string, string>()): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) flattened(inner, prefix ? `${prefix}.${key}` : key, into);
  } else if (value !== undefined && value !== null) {
    // Null is what an option is where nobody gave it: a checkpoint of a version without the option lacks it.
    into.set(prefix, JSON.stringify(value));
  }
  return into;
}
