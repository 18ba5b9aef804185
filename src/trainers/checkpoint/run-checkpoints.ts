import { realpath } from '#platform/fs';
import * as path from '#platform/path';
import { randomUUID } from '#platform/system';
import { CheckpointError, NonFiniteLossError } from '../../errors.ts';
import type { FolderLock } from '../../files/folder-lock.ts';
import type { NamedTensor } from '../../files/safetensors.ts';
import * as z from '../../zod.ts';
import { LR_SCHEDULERS, learningRateAt } from '../schedules.ts';
import type { StateKind, TrainingState } from '../step/update.ts';
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts';
import {
  findLatestCheckpoint,
  lastWritten,
  pruneCheckpoints,
  type SkippedCheckpoint,
  setAsideCheckpoint,
} from './checkpoint-folder.ts';
import {
  changedSettings,
  changesNumbers,
  type RecordedChange,
  type RunIdentity,
  type SettingChange,
} from './run-identity.ts';

/** Where a run was when it was saved. RNG and data order are functions of the seed and the step (see `BatchStream`). */
export interface Progress {
  readonly step: number;
  readonly state: TrainingState;
  /** The sums of `MetricsWindow`. */
  readonly window: unknown;
}

/** Where a run goes on, and what it does otherwise from there. */
export interface Resumption extends Progress {
  readonly changes: readonly SettingChange[];
  /** Undefined where nothing that was changed alters a step. */
  readonly warning: string | undefined;
}

/** What the log in the output folder is to a run: its own, that of a run it branches off from, or another run's. */
export type FormerLog = 'own' | 'parent' | 'other';

/** Where the checkpoints of a run are, and what a checkpoint must fit. */
interface RunFolder {
  readonly outputDir: string;
  readonly identity: RunIdentity;
  /** Checkpoints to keep. */
  readonly keep: number;
  /** The length of each vector of the state. */
  readonly lengths: ReadonlyMap<StateKind, number>;
  readonly lock: FolderLock;
}

const changeSchema = z.strictObject({
  step: z.int(),
  name: z.string(),
  from: z.unknown(),
  to: z.unknown(),
  while_running: z.optional(z.boolean()),
});
const stateSchema = z.object({
  global_step: z.int().check(z.nonnegative()),
  metrics_window: z.unknown(),
  run: z.unknown(),
  changes: z._default(z.array(changeSchema), []),
});

/**
 * The checkpoints of one run in its output folder. Those of other runs there are never touched. A run that goes on from
 * its last checkpoint stays the same run; one that goes on from an older checkpoint, or from elsewhere, is a new one.
 */
export class RunCheckpoints {
  /** The checkpoint that holds the last saved state, and its step. */
  private last: { readonly dir: string; readonly step: number; readonly isOwn: boolean } | undefined;

  /** The run's own checkpoint that it goes on from. It is kept, beyond the limit, as a place to return to. */
  private startDir: string | undefined;

  private constructor(
    private readonly folder: RunFolder,
    private readonly runId: string,
    private sequence: number,
    private changes: readonly RecordedChange[],
    readonly formerLog: FormerLog,
  ) {}

  /**
   * @param resume 'latest' or the path of a checkpoint; undefined starts afresh.
   * @param onSkipped told of every newer checkpoint that is damaged.
   * @returns `start` undefined for a fresh run.
   * @throws {CheckpointError} when the checkpoint is damaged or of another run.
   */
  static async open(
    folder: RunFolder,
    resume: string | undefined,
    onSkipped: (skipped: SkippedCheckpoint) => void | Promise<void>,
  ): Promise<{ checkpoints: RunCheckpoints; start: Resumption | undefined }> {
    const { outputDir } = folder;
    let directory = resume;
    if (resume === 'latest') {
      const { dir, skipped } = await findLatestCheckpoint(outputDir);
      for (const checkpoint of skipped) await onSkipped(checkpoint);
      directory = dir;
    }
    if (directory === undefined) {
      const { sequence } = await lastWritten(outputDir, undefined);
      return { checkpoints: new RunCheckpoints(folder, randomUUID(), sequence, [], 'other'), start: undefined };
    }
    const { origin, recorded, ...start } = await readStart(directory, folder);
    const { dir: newest, sequence, lastRun } = await lastWritten(outputDir, origin?.run_id);
    const goesOn = resume === 'latest' || (newest !== undefined && (await samePath(newest, directory)));
    const isHere = goesOn || (await samePath(path.dirname(directory), outputDir));
    const formerLog = !isHere || lastRun !== origin?.run_id ? 'other' : goesOn ? 'own' : 'parent';
    const runId = goesOn && origin ? origin.run_id : randomUUID();
    const changes = start.changes.map((change) => ({ step: start.step + 1, ...change }));
    const checkpoints = new RunCheckpoints(folder, runId, sequence, [...recorded, ...changes], formerLog);
    checkpoints.last = { dir: directory, step: start.step, isOwn: goesOn };
    if (goesOn) checkpoints.startDir = resume === 'latest' ? directory : newest;
    return { checkpoints, start };
  }

  /** All changes of the run's settings so far, in their order. */
  get recordedChanges(): readonly RecordedChange[] {
    return this.changes;
  }

  /** Records what the steps from `step` on take otherwise, for the checkpoints to come. */
  recordChanges(step: number, changes: readonly SettingChange[]): void {
    this.changes = [...this.changes, ...changes.map((change) => ({ step, ...change, while_running: true }))];
  }

  /**
   * Writes a checkpoint, and deletes the run's oldest ones beyond the limit.
   *
   * @returns its folder.
   * @throws {NonFiniteLossError} when the state is not finite. Nothing is written then.
   * @throws {InvalidArgumentError} when another process has taken over the folder.
   */
  async save({ step, state, window }: Progress): Promise<string> {
    const { outputDir, identity, keep, lock } = this.folder;
    refuseNonFinite(state, step);
    await lock.refuseIfLost();
    const tensors = new Map<string, NamedTensor>();
    for (const [name, data] of state) tensors.set(name, { dtype: 'F32', shape: [data.length], data });
    const saved = { global_step: step, metrics_window: window, run: identity, changes: this.changes };
    const origin = { run_id: this.runId, sequence: this.sequence + 1 };
    const content = { tensors, state: JSON.parse(JSON.stringify(saved)) };
    const dir = await writeCheckpoint(outputDir, step, content, origin);
    this.sequence += 1;
    this.last = { dir, step, isOwn: true };
    await pruneCheckpoints(outputDir, keep, { run_id: this.runId, spared: this.startDir });
    return dir;
  }

  /**
   * What to do after a divergence. When the weights of a checkpoint themselves are to blame, no setting that may change
   * would help. Such a checkpoint is renamed, so that the latest is one that can be continued.
   *
   * @param step the step after which the weights gave a loss that is not finite.
   */
  async afterDivergence(step: number): Promise<string> {
    const { last } = this;
    const advice = 'Lower learning_rate, set max_grad_norm, or check the data';
    if (last === undefined) return `${advice}. There is no checkpoint to resume from: start again`;
    if (last.step !== step) return `${advice}, and resume from ${last.dir}`;
    if (!last.isOwn) return `${advice}, and resume from a checkpoint before ${last.dir}, whose weights give this loss`;
    const aside = await setAsideCheckpoint(last.dir);
    const { dir } = await lastWritten(this.folder.outputDir, this.runId);
    const next = dir === undefined ? 'start again: there is no earlier checkpoint' : `resume from ${dir}`;
    return `${advice}, and ${next}. The weights of ${path.basename(last.dir)} give this loss with any setting: it is now ${aside}`;
  }
}

async function readStart(directory: string, { identity, lengths }: RunFolder) {
  const { step, tensors, state, origin } = await readCheckpoint(directory);
  const parsed = stateSchema.safeParse(state);
  if (!parsed.success || parsed.data.global_step !== step)
    throw new CheckpointError(`${directory} holds no state of a training run: it is of another program or version`);
  const { run, metrics_window: window, changes: recorded } = parsed.data;
  const last = recorded.findLast(({ name }) => name === 'learning_rate');
  const inForce = last?.while_running && typeof last.to === 'number' ? last.to : undefined;
  const changes = changedSettings(run, identity, directory).map((change) =>
    change.name === 'learning_rate' && inForce !== undefined ? { ...change, from: inForce } : change,
  );
  const vectors = new Map<StateKind, Float32Array>();
  for (const [kind, length] of lengths) {
    const data = tensors.get(kind)?.data;
    if (!(data instanceof Float32Array) || data.length !== length)
      throw new CheckpointError(
        `${directory}: '${kind}' has ${data?.length ?? 'no'} values, but the model needs ${length} in float32`,
      );
    vectors.set(kind, data);
  }
  const stays = changes.every(({ name }) => name !== 'learning_rate');
  const warning = changeWarning(step, changes, [rateOf(run, inForce), rateOf(identity, stays ? inForce : undefined)]);
  return { step, state: vectors, window, changes, warning, origin, recorded };
}

const scheduleSchema = z.object({
  arguments: z.object({
    learning_rate: z.number(),
    lr_scheduler_type: z.enum(LR_SCHEDULERS),
    warmup_steps: z.number(),
    lr_num_cycles: z.optional(z.number()),
    lr_power: z.optional(z.number()),
    lr_end: z.optional(z.number()),
    lr_step_rules: z.optional(z.string()),
    max_steps: z.number(),
  }),
});

/**
 * The learning rate of a run at each step; undefined where its arguments are not those of this version.
 *
 * @param inForce what the run had changed `learning_rate` to.
 */
function rateOf(run: unknown, inForce: number | undefined): ((step: number) => number) | undefined {
  const { data } = scheduleSchema.safeParse(run);
  if (!data) return undefined;
  const { arguments: args } = data;
  const learning_rate = inForce ?? args.learning_rate;
  return (step) => learningRateAt(step, { ...args, learning_rate }, args.max_steps);
}

/**
 * What the next steps do otherwise than the checkpoint's run would have done; undefined where they do the same.
 *
 * @param rateOfRuns the learning rate of the checkpoint's run and of this one.
 */
function changeWarning(
  step: number,
  changes: readonly SettingChange[],
  rateOfRuns: readonly [ReturnType<typeof rateOf>, ReturnType<typeof rateOf>],
): string | undefined {
  const rates = rateOfRuns.flatMap((rate) => (rate ? [rate(step + 1)] : []));
  const jumps = rates.length === 2 && rates[0] !== rates[1];
  if (!jumps && !changes.some(changesNumbers)) return undefined;
  const shown = changes.filter((change) => changesNumbers(change) || (jumps && change.name === 'max_steps'));
  const list = shown.map(({ name, from, to }) => `${name} ${to} instead of ${from}`).join(', ');
  const jump = jumps ? `; the learning rate of step ${step + 1} is ${rates[1]} instead of ${rates[0]}` : '';
  return `resumed at step ${step} with ${list}${jump}`;
}

function refuseNonFinite(state: TrainingState, step: number): void {
  for (const [kind, vector] of state) {
    for (let i = 0; i < vector.length; i++) {
      if (Number.isFinite(vector[i])) continue;
      throw new NonFiniteLossError(`training diverged at step ${step}: after it, ${kind} ${i} is ${vector[i]}`, step);
    }
  }
}

async function samePath(a: string, b: string): Promise<boolean> {
  const [realA, realB] = await Promise.all([a, b].map((each) => realpath(each).catch(() => path.resolve(each))));
  return realA === realB;
}
