import { InvalidArgumentError } from '../../errors.ts';
import { isImageTarget, TARGETS, type Target } from '../../experiments/reproduce/paper/targets.ts';
import { PRESETS } from '../../experiments/reproduce/presets.ts';
import * as z from '../../zod.ts';
import { didYouMean, givenFlag, listOption, option, type Settings } from './command-options.ts';
import { deviceOption, shareOption } from './shared-options.ts';

const wholeNumber = z.int().check(z.gte(1));

/** Options for images only. */
const imageOptions = {
  data: listOption(
    'files',
    '--data <sources...>',
    z.optional(z.array(z.string().check(z.minLength(1)))),
    'images, [NAME=]SOURCE: digits, mnist-10k, emoji, oxford-flowers-102, oxford-iiit-pet, a folder or file, or a folder with the archive of an Oxford set (default: both Oxford sets; smoke: digits)',
  ),
  lambda: option(
    '--lambda <weight>',
    z.optional(z.number().check(z.positive(), z.refine(Number.isFinite, 'must be finite'))),
    'weight of the penalty for images (default: 0.05)',
  ),
  resolution: option(
    '--resolution <side>',
    z.optional(wholeNumber),
    'side of the images in pixels (default: 64; smoke: 8)',
  ),
  samples: option(
    '--samples <count>',
    z.optional(z.int().check(z.gte(6))),
    'generated images (default: as many as real ones; smoke: 128)',
  ),
  extractor: option(
    '--extractor <spec>',
    z.optional(z.string().check(z.minLength(1))),
    'features of FID, Precision and so on: inception, raw-pixels, FILE.onnx[:OUTPUT], a transformers.js model, or a registered one (default: inception; smoke: raw-pixels)',
  ),
  logits_extractor: option(
    '--logits-extractor <spec>',
    z.optional(z.string().check(z.minLength(1))),
    'class logits of the Inception Score (default: with the extractor inception its own classifier, else none)',
  ),
};

export const reproduceOptions = {
  preset: option(
    '--preset <name>',
    z._default(z.enum(PRESETS), 'paper'),
    'paper, or smoke: a tiny trial run without verdicts',
  ),
  runs: option('--runs <count>', z.optional(wholeNumber), 'runs to average over (default: 3; smoke: 2)'),
  epochs: option('--epochs <count>', z.optional(wholeNumber), 'epochs (default: 1000; smoke: 100, images 6)'),
  seed: option(
    '--seed <seed>',
    z._default(z.int().check(z.gte(0)), 0),
    'seed of the first run; each further run adds 1',
  ),
  points: option(
    '--points <count>',
    z.optional(z.int().check(z.gte(6))),
    'real and generated points (default: 10000; smoke: 1000)',
  ),
  batch_size: option(
    '--batch-size <count>',
    z.optional(wholeNumber),
    'samples per batch (default: 512, images 64; smoke: 128, images 32)',
  ),
  steps: option(
    '--steps <count>',
    z.optional(z.int().check(z.gte(1), z.lte(1000))),
    'sampling steps (default: 1000; smoke: 100, images 50)',
  ),
  jobs: option('--jobs <count>', z.optional(wholeNumber), 'runs at a time (default: on the cpu one per core, else 1)'),
  device: deviceOption('cpu'),
  ...imageOptions,
  output: option(
    '--output <folder>',
    z.optional(z.string().check(z.minLength(1))),
    'output folder (default: runs/reproduce-PRESET)',
  ),
  resume: option('--resume', z._default(z.boolean(), false), 'continue with what is in the output folder'),
  report: option(
    '--report <file>',
    z.optional(z.string().check(z.regex(/\.md$/, 'must end in .md'))),
    'also write one Markdown file of all targets, with its plots in images/ next to it',
  ),
  share: shareOption(
    'only the runs of the i-th of n parts; reports follow by --report-only (with mpirun each rank its part)',
  ),
  report_only: option('--report-only', z._default(z.boolean(), false), 'run nothing, report the finished runs'),
};

export type ReproduceSettings = Settings<typeof reproduceOptions>;

/** @throws {InvalidArgumentError} that names the nearest target. */
export function parseTarget(name: string): Target {
  const target = TARGETS.find((known) => known === name);
  if (target) return target;
  throw new InvalidArgumentError(
    `the target '${name}' is unknown (known: ${TARGETS.join(', ')}).${didYouMean(name, TARGETS)}`,
  );
}

/** @throws {InvalidArgumentError} for an option that the targets do not use. */
export function refuseUnusedOptions(targets: readonly Target[], settings: ReproduceSettings): void {
  const refuse = (flag: string | undefined, use: string) => {
    if (flag === undefined) return;
    throw new InvalidArgumentError(
      `${flag} is given, but ${targets.join(', ')} ${targets.length > 1 ? 'have' : 'has'} no use for it: it is for ${use}`,
    );
  };
  if (!targets.some(isImageTarget)) refuse(givenFlag(settings, Object.keys(imageOptions)), 'table-6 and figure-2');
  if (targets.every(isImageTarget)) refuse(givenFlag(settings, ['points']), 'tables and figures on points');
}
