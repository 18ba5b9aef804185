import path from 'node:path';
import { EvaluationCallback } from '../../../evaluation/callback/evaluation-callback.ts';
import { readEvaluations } from '../../../evaluation/callback/evaluation-log.ts';
import { extractors } from '../../../evaluation/extractors/registry.ts';
import type { CardResults } from '../../../hub/card-results.ts';
import { metrics } from '../../../metrics/registry.ts';
import type { Device } from '../../../runtime/device.ts';
import type { RunLogger } from '../../../trainers/logging/run-logger.ts';
import type { TrainerCallback } from '../../../trainers/trainer-callback.ts';
import * as z from '../../../zod.ts';
import { grouped, listOption, option, type Settings } from '../../options/command-options.ts';
import { printWarning } from '../../ui/progress.ts';
import { PAGE_FILE, RunPageLogger } from '../../ui/run-page.ts';

/** How often samples are drawn, in steps, and how many. */
const DEFAULTS = {
  points: { every: 1000, count: 1000 },
  images: { every: 500, count: 16 },
} as const;
const byKind = (key: keyof typeof DEFAULTS.points) =>
  `(default: points ${DEFAULTS.points[key]}, images ${DEFAULTS.images[key]})`;

const interval = z.optional(z.int().check(z.gte(0)));

export const watchOptions = grouped('Samples and evaluation:', {
  sample_every: option(
    '--sample-every <steps>',
    interval,
    `draw samples from the same noise every so many steps and at the end; 0: never ${byKind('every')}`,
  ),
  sample_count: option(
    '--sample-count <count>',
    z.optional(z.int().check(z.gte(1), z.lte(10_000))),
    `samples ${byKind('count')}`,
  ),
  eval_every: option(
    '--eval-every <steps>',
    interval,
    'evaluate every so many steps and at the end; 0: never (default: 0; with another option of evaluation as often as samples)',
  ),
  eval_metrics: listOption(
    'names',
    '--eval-metrics <names...>',
    z.optional(z.array(z.string()).check(z.minLength(1))),
    `${metrics.names().join(', ')}, or a registered one (default: points prdc, images fid, kid, prdc)`,
  ),
  eval_extractor: option(
    '--eval-extractor <name|file:output>',
    z.optional(z.string()),
    `images: ${extractors.names().join(', ')}, model.onnx:output, ... (default: inception)`,
  ),
  eval_samples: option(
    '--eval-samples <count>',
    z.optional(z.int().check(z.gte(2))),
    'samples of an evaluation (default: as many as there are training samples, at most 10000)',
  ),
  keep_best: option(
    '--keep-best <value>',
    z.optional(z.string()),
    'keep the model with the best fid, kid_mean, precision, recall, density, coverage, ... in OUTPUT/best',
  ),
});

type WatchSettings = Settings<typeof watchOptions> & {
  readonly dataset: string;
  readonly output_dir: string;
  readonly device: Device;
};

/** What shows a run while it lasts. */
export interface Watched {
  readonly callbacks: readonly TrainerCallback[];
  readonly loggers: readonly RunLogger[];
  /** The HTML file. */
  readonly page: string;
  /** Folder of the samples. */
  readonly samples_dir: string;
  /** What the model card says of the evaluation after a step, where there was one. */
  resultsAt(step: number): Promise<CardResults | undefined>;
}

/** Samples, evaluations and the page of a run in its folder. */
export function watchRun(kind: 'points' | 'images', settings: WatchSettings): Watched {
  const { dataset, output_dir, device, eval_metrics, eval_extractor, eval_samples, keep_best } = settings;
  const { sample_every = DEFAULTS[kind].every, sample_count = DEFAULTS[kind].count } = settings;
  const wantsEvaluation = [eval_metrics, eval_extractor, eval_samples, keep_best].some((given) => given !== undefined);
  const { eval_every = wantsEvaluation ? sample_every || DEFAULTS[kind].every : 0 } = settings;
  const samples_dir = path.join(output_dir, 'samples');
  const evaluation_dir = path.join(output_dir, 'evaluation');
  const best = path.join(output_dir, 'best');
  const common = { device, on_warning: printWarning };
  const callbacks: TrainerCallback[] = [];
  if (sample_every > 0)
    callbacks.push(
      new EvaluationCallback({ ...common, every_steps: sample_every, samples: sample_count, directory: samples_dir }),
    );
  if (eval_every > 0)
    callbacks.push(
      new EvaluationCallback({
        ...common,
        every_steps: eval_every,
        samples: 0,
        metrics: { metrics: eval_metrics, extractor: eval_extractor, num_samples: eval_samples },
        directory: evaluation_dir,
        keep_best,
        best_directory: best,
      }),
    );
  const page = new RunPageLogger({
    title: path.basename(dataset),
    samples_dir: sample_every > 0 ? samples_dir : undefined,
    evaluation_dir: eval_every > 0 ? evaluation_dir : undefined,
    best_file: keep_best === undefined ? undefined : path.join(best, 'best.json'),
  });
  return {
    callbacks,
    loggers: [page],
    page: path.join(output_dir, PAGE_FILE),
    samples_dir,
    async resultsAt(step) {
      if (eval_every === 0) return undefined;
      const last = (await readEvaluations(evaluation_dir)).findLast((each) => each.step === step);
      if (last === undefined) return undefined;
      const { samples, values } = last;
      const extractor = kind === 'images' ? { extractor: eval_extractor ?? 'inception' } : {};
      return { metrics: values, args: { ...extractor, ...(samples === undefined ? {} : { samples }) } };
    },
  };
}
