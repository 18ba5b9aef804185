import { duration } from '../../../terminal/progress.ts';
import type { TrainedResult } from '../../jobs/job.ts';
import { PAPER_SOURCE } from '../paper/paper-results.ts';
import type { EffectOptions } from './effect.ts';

/** What a report says about the runs behind it. */
export interface RunSummary {
  readonly jobs: number;
  readonly finished: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly seeds: readonly number[];
  /** Whether effects are compared with the paper's. */
  readonly verdicts: boolean;
  /** Distinct descriptions of machine and version. */
  readonly machines: readonly string[];
  readonly settings: readonly string[];
}

export function summariseRuns(
  jobs: number,
  results: readonly TrainedResult[],
  { verdicts }: EffectOptions,
): RunSummary {
  const total = (seconds: (result: TrainedResult) => number) =>
    results.reduce((sum, result) => sum + seconds(result), 0);
  return {
    jobs,
    finished: results.length,
    cpuSeconds: total(({ timing }) => timing.cpu_seconds),
    wallSeconds: total(({ timing }) => timing.wall_seconds),
    seeds: [...new Set(results.map(({ job }) => job.seed))].sort((a, b) => a - b),
    verdicts,
    machines: [...new Set(results.map(machineText))],
    settings: [...new Set(results.map(settingsText))],
  };
}

function machineText({ environment: { package_version, node, platform, cpu } }: TrainedResult): string {
  return `iso-diffusion ${package_version}, Node.js ${node}, ${platform}, ${cpu}`;
}

function settingsText({ job }: TrainedResult): string {
  const common = `${job.epochs} epochs, batch ${job.batch_size}, learning rate ${job.learning_rate}, T = ${job.num_train_timesteps}, ${job.num_inference_steps} sampling steps, PRDC with k = ${job.nearest_k}, device ${job.device}`;
  return job.kind === 'points'
    ? `Points: conditional dense network, 3 hidden layers of ${job.hidden_features}; ${job.points} real and as many generated points; ${common}.`
    : `${job.name}: U-Net '${job.model}' at ${job.resolution}x${job.resolution}; ${job.samples ?? 'as many generated images as real ones'}${job.samples === null ? '' : ' generated images'}; λ = 0 and the λ shown; ${common}.`;
}

/** The paragraphs above a report. */
export function summaryMarkdown(summary: RunSummary): string {
  const { jobs, finished, seeds, verdicts, settings, machines, cpuSeconds, wallSeconds } = summary;
  const unfinished =
    finished < jobs ? ` **${jobs - finished} of ${jobs} runs are not finished: this report is partial.**` : '';
  return [
    `Measured by \`iso-diffusion reproduce\`, next to the published figures (${PAPER_SOURCE}). Values are the mean over the runs ± the half width of its 95 % interval (Student's t, n − 1 degrees of freedom for n runs). The seeds are ${seeds.join(', ') || 'none'}; each seed decides the data, the initial weights, the noise and the samples. Nothing was tuned towards the published figures.${unfinished}`,
    ...settings,
    `A change against λ = 0 is the mean difference between runs of the same seed, with its 95 % interval [low, high] over these pairs. ${verdicts ? `Where the interval leaves out 0, the change is clear, and its sign is compared with the paper's. Of 20 changes that are none, one looks clear by chance.` : "The smoke preset trains too little to compare it with the paper's."}`,
    `Time: ${duration(cpuSeconds)} of processor time for ${finished} runs, ${duration(wallSeconds)} of wall time summed over the runs (waiting for other processes included). ${machines.join('; ')}.`,
  ].join('\n\n');
}
