import { CheckpointError } from '../../errors.ts';
import type { NamedTensor } from '../../files/safetensors.ts';
import { STATE_KINDS, type StateKind, type TrainingState } from '../step/update.ts';
import { findLatestCheckpoint, readCheckpoint, type SkippedCheckpoint, writeCheckpoint } from './checkpoint.ts';
import { type RunIdentity, refuseOtherRun } from './run-identity.ts';

/** Where a run was when it was saved. RNG and data order are functions of the seed and the step (see `BatchStream`). */
export interface Progress {
  readonly step: number;
  readonly state: TrainingState;
  /** The sums of `MetricsWindow`. */
  readonly window: unknown;
}

/** Writes a checkpoint and returns its folder. */
export async function saveProgress(outputDir: string, progress: Progress, identity: RunIdentity): Promise<string> {
  const tensors = new Map<string, NamedTensor>();
  for (const [name, data] of progress.state) tensors.set(name, { dtype: 'F32', shape: [data.length], data });
  const state = { global_step: progress.step, metrics_window: progress.window, run: identity };
  return writeCheckpoint(outputDir, progress.step, { tensors, state: JSON.parse(JSON.stringify(state)) });
}

/**
 * The progress to continue from, or undefined for a fresh start.
 *
 * @param onSkipped told of every newer checkpoint that is damaged.
 * @param resume 'latest' or the path of a checkpoint; undefined starts afresh.
 * @throws {CheckpointError} when the checkpoint is damaged or of another run.
 */
export async function loadStart(
  outputDir: string,
  resume: string | undefined,
  identity: RunIdentity,
  onSkipped: (skipped: SkippedCheckpoint) => void | Promise<void>,
): Promise<Progress | undefined> {
  if (resume === undefined) return undefined;
  let directory: string | undefined = resume;
  if (resume === 'latest') {
    const { dir, skipped } = await findLatestCheckpoint(outputDir);
    for (const checkpoint of skipped) await onSkipped(checkpoint);
    directory = dir;
  }
  if (directory === undefined) return undefined;
  const { tensors, state } = await readCheckpoint(directory);
  refuseOtherRun(state.run, identity, directory);
  if (!Number.isSafeInteger(state.global_step))
    throw new CheckpointError(`${directory}: global_step is ${JSON.stringify(state.global_step)}, not a step`);
  const vectors = new Map<StateKind, Float32Array>();
  for (const name of STATE_KINDS) {
    const data = tensors.get(name)?.data;
    if (data === undefined) continue;
    if (!(data instanceof Float32Array)) throw new CheckpointError(`${directory}: '${name}' is not float32`);
    vectors.set(name, data);
  }
  return { step: Number(state.global_step), state: vectors, window: state.metrics_window };
}
