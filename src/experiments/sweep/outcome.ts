import type { JobResult, Stored, TrainingJob } from '../jobs/job.ts';
import { counted } from '../text.ts';
import type { SweepCell } from './cells.ts';

/** What the report of a sweep is written from. */
export interface SweepOutcome {
  /** The run of weight 0 and the first seed. */
  readonly first: TrainingJob;
  /** The runs of weight 0, one a seed. */
  readonly bases: readonly TrainingJob[];
  readonly seeds: number;
  readonly cells: readonly SweepCell[];
  /** Finished runs by name. */
  readonly stored: ReadonlyMap<string, Stored<JobResult>>;
  readonly planned: number;
  readonly unfinished: number;
}

/** What the metrics must not be taken for, one sentence each. */
export function warningsOf({ stored }: Pick<SweepOutcome, 'stored'>): string[] {
  const all = [...stored.values()].flatMap(({ result }) => ('warnings' in result ? result.warnings : []));
  return [...new Set(all)];
}

/** The settings that all runs share. */
export function settingsText({ first, seeds }: SweepOutcome): string {
  const { epochs, batch_size, learning_rate, num_inference_steps, nearest_k, seed, device } = first;
  const kind =
    first.kind === 'points'
      ? `Conditional dense network, 3 hidden layers of ${first.hidden_features}; ${first.points ?? 'all'} points and as many generated ones`
      : `U-Net '${first.model}' at ${first.resolution}x${first.resolution}; ${first.samples ?? 'as many generated images as real ones'}; features: ${first.extractor}`;
  return `${kind}; ${counted(epochs, 'epoch')} in batches of ${batch_size}, learning rate ${learning_rate}; ${num_inference_steps} steps of DDPM to draw; k = ${nearest_k}; seeds ${seed} to ${seed + seeds - 1}; device ${device}.`;
}
