import { CheckpointError } from '../../errors.ts';
import type { JsonObject } from '../../files/json.ts';
import type { ResolvedTrainingArguments } from '../training-arguments.ts';

/** What is trained, its loss and the like: the config of each by name. */
interface RunParts {
  readonly dataset_sha256: string;
  readonly [part: string]: unknown;
}

/** All that decides the numbers of a run, and what a continuation may change. It is JSON, and shares no object. */
export interface RunIdentity extends RunParts {
  /** See `RANDOM_SCHEME`; absent before there were several. */
  readonly random_scheme?: number | undefined;
  readonly arguments: JsonObject;
}

/** How random numbers follow from the seed: 2, for each sample of a step. Versions before drew a step as a whole. */
const RANDOM_SCHEME = 2;

/** A setting that differs between a checkpoint and the run that continues it. */
export interface SettingChange {
  /** The setting, such as 'learning_rate'. */
  readonly name: string;
  /** Its value in the checkpoint. */
  readonly from: unknown;
  /** Its value from now on. */
  readonly to: unknown;
}

/** A change as checkpoints hold it. */
export interface RecordedChange extends SettingChange {
  /** The first step that was taken with it. */
  readonly step: number;
  /** Whether `Trainer.change` made it; else the run was resumed with other arguments. */
  readonly while_running?: boolean | undefined;
}

/** Arguments that a continuation may change, and that change what a step computes. */
const CHANGEABLE = [
  'learning_rate',
  'lr_scheduler_type',
  'warmup_steps',
  'lr_num_cycles',
  'lr_power',
  'lr_end',
  'lr_step_rules',
  'max_grad_norm',
  'tf32',
];
/** Arguments that it may change, and that leave a step as it is. */
const WITHOUT_EFFECT = [
  'max_steps',
  'device',
  'gradient_checkpointing',
  'logging_steps',
  'save_steps',
  'save_total_limit',
  'report_to',
];
/**
 * The folder is where the checkpoint lies, `max_steps` says what the epochs amount to, and a progress line and the number of
 * a GPU are of a process. TF32 is recorded by `onCuda`.
 */
const NOT_RECORDED = ['output_dir', 'num_train_epochs', 'disable_tqdm', 'device_id', 'tf32'];

/**
 * Ranks count as batches of a step: a run goes on with the same bits on any number of them.
 *
 * @param maxSteps steps of the whole run, which `args` may give as epochs.
 * @param ranks the processes that share a step.
 */
export function runIdentity(
  parts: RunParts,
  args: ResolvedTrainingArguments,
  maxSteps: number,
  ranks: number,
): RunIdentity {
  const gradient_accumulation_steps = args.gradient_accumulation_steps * ranks;
  // Older versions knew 'batch', float32 and plain noise alone, and a step of one batch is the same either way.
  const isotropy_over = gradient_accumulation_steps > 1 && args.isotropy_over === 'step' ? 'step' : undefined;
  const mixed_precision = args.mixed_precision === 'no' ? undefined : args.mixed_precision;
  const numbers = {
    gradient_accumulation_steps,
    isotropy_over,
    mixed_precision,
    noise_offset: args.noise_offset || undefined,
    input_perturbation: args.input_perturbation || undefined,
    max_steps: maxSteps,
  };
  const recorded = without({ ...args, ...numbers }, NOT_RECORDED);
  return JSON.parse(JSON.stringify({ ...parts, random_scheme: RANDOM_SCHEME, arguments: recorded }));
}

/** The identity of a run on cuda, where TF32 changes the numbers. @param tf32 whether it is on. */
export function onCuda(identity: RunIdentity, tf32: boolean): RunIdentity {
  return { ...identity, arguments: { ...identity.arguments, tf32 } };
}

/** The arguments that decide the numbers of a step. */
export function decidingArguments({ arguments: args }: RunIdentity): JsonObject {
  return without(args, WITHOUT_EFFECT);
}

/** The identity as a flat record, for logs: 'learning_rate', 'loss.lambda', 'model.hidden_features'. Lists are JSON. */
export function flatSettings(identity: RunIdentity): Record<string, string | number | boolean> {
  const settings: Record<string, string | number | boolean> = {};
  for (const [key, text] of flattened({ ...identity, arguments: decidingArguments(identity) })) {
    const value: unknown = JSON.parse(text);
    const isScalar = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    settings[key.replace(/^arguments\./, '')] = isScalar ? value : text;
  }
  return settings;
}

export function changesNumbers({ name }: SettingChange): boolean {
  return CHANGEABLE.includes(name);
}

/**
 * What a continuation changes: learning rate, clipping, length, device, TF32, logs and checkpoints.
 *
 * @param saved the identity in a checkpoint.
 * @throws {CheckpointError} that lists what makes it another run: model, data, loss, noise schedule or other arguments; or
 * says that the checkpoint is of a version that drew other random numbers.
 */
export function changedSettings(saved: unknown, current: RunIdentity, where: string): SettingChange[] {
  const scheme = flattened(saved).get('random_scheme') ?? '1';
  if (scheme !== String(RANDOM_SCHEME))
    throw new CheckpointError(
      `${where} is of a version of iso-diffusion that draws other noise and timesteps from the seed (random_scheme ${scheme}; here it is ${RANDOM_SCHEME}): finish the run with that version, or start afresh in another output_dir`,
    );
  const changes: SettingChange[] = [];
  const refused: string[] = [];
  for (const { key, name, before: from, now: to } of settingsThatDiffer(saved, current)) {
    if (name === key || ![...CHANGEABLE, ...WITHOUT_EFFECT].includes(name))
      refused.push(`${name} is ${from ?? 'absent'} there and ${to ?? 'absent'} here`);
    // Older versions did not record what has no effect.
    else if (from !== undefined && to !== undefined) changes.push({ name, from: JSON.parse(from), to: JSON.parse(to) });
  }
  if (refused.length === 0) return changes;
  const more = refused.length > MOST_LISTED ? `, and ${refused.length - MOST_LISTED} more settings differ` : '';
  throw new CheckpointError(
    `${where} is of another run: ${refused.slice(0, MOST_LISTED).join('; ')}${more}. Resume with the same settings, or choose another output_dir. The learning rate and its schedule, clipping, max_steps, device, tf32, logging and saving may change`,
  );
}

const MOST_LISTED = 8;

/** The settings that two identities have different values for, as JSON; undefined where one lacks it. */
export function settingsThatDiffer(saved: unknown, current: unknown) {
  const [first, second] = [flattened(saved), flattened(current)];
  return [...new Set([...first.keys(), ...second.keys()])].flatMap((key) => {
    const [before, now] = [first.get(key), second.get(key)];
    return before === now ? [] : [{ key, name: key.replace(/^arguments\./, ''), before, now }];
  });
}

function without<Value>(values: Readonly<Record<string, Value>>, names: readonly string[]): Record<string, Value> {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));
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
