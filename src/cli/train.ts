import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { loadPoints, type PointSet } from '../datasets/index.ts';
import { InvalidArgumentError } from '../errors.ts';
import { isoLoss, simpleLoss } from '../losses/index.ts';
import { ConditionalDense } from '../models/index.ts';
import { DDPMScheduler } from '../schedulers/index.ts';
import { Trainer } from '../trainers/trainer.ts';
import type { TrainerCallback } from '../trainers/trainer-callback.ts';
import { addOptions, option, readSettings, type Settings } from './command-options.ts';
import { InterruptedError, withInterrupt } from './interrupt.ts';
import { progressBar } from './progress.ts';
import { trainingOptions } from './training-options.ts';
import { writeTrainingPlots } from './training-plots.ts';

const options = {
  dataset: option(
    '--dataset <name|file>',
    z.string().default('swiss-roll'),
    'swiss-roll, moons, s-curve, 8-gaussians, or a .csv or .npy file',
  ),
  n: option('--n <count>', z.number().optional(), 'points: to make (10000), or to read from the file (all)'),
  noise: option('--noise <deviation>', z.number().optional(), "noise of the made points, default the set's"),
  scaling: option(
    '--scaling <kind>',
    z.enum(['min-max', 'standardise', 'none']).default('min-max'),
    'min-max, standardise or none',
  ),
  data_seed: option('--data-seed <seed>', z.number().default(0), 'seed of the made points'),
  loss: option('--loss <name>', z.enum(['iso', 'simple']).default('iso'), 'iso or simple'),
  lambda: option('--lambda <weight>', z.number().optional(), 'weight of the isotropy penalty (iso: 0.1)'),
  prediction_type: option(
    '--prediction-type <type>',
    z.enum(['epsilon', 'v_prediction', 'sample']).default('epsilon'),
    'what the model predicts: epsilon, v_prediction or sample',
  ),
  beta_schedule: option(
    '--beta-schedule <name>',
    z.enum(['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid']).default('linear'),
    'linear, scaled_linear, squaredcos_cap_v2 or sigmoid',
  ),
  num_train_timesteps: option('--num-train-timesteps <T>', z.number().default(1000), 'timesteps'),
  hidden_features: option('--hidden-features <width>', z.number().default(128), 'width of the network'),
  num_hidden_layers: option('--num-hidden-layers <count>', z.number().default(3), 'hidden layers'),
  resume_from_checkpoint: option(
    '--resume, --resume-from-checkpoint [checkpoint]',
    z.union([z.boolean(), z.string()]).optional(),
    'go on from a checkpoint: its path, or the latest in the output folder',
  ),
  ...trainingOptions,
};

export function addTrainCommand(program: Command): void {
  const command = program
    .command('train')
    .description('Train a model on points; writes checkpoints, logs, plots and OUTPUT/pipeline.')
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion train --dataset swiss-roll --lambda 0.1 --output runs/swiss-roll
  iso-diffusion train --dataset points.csv --epochs 200 --lr 3e-4 --ema --output runs/mine
  iso-diffusion train --config train.yaml --seed 1 --output runs/seed-1
  iso-diffusion train --dataset swiss-roll --output runs/swiss-roll --resume latest

A config file has the long names with underscores: {"dataset": "moons", "learning_rate": 0.001}.
Ctrl-C saves a checkpoint and exits 130; a second Ctrl-C exits at once.`,
    );
  addOptions(command, options).action(async (flags) => train(await readSettings(options, flags)));
}

async function train(settings: Settings<typeof options>): Promise<void> {
  const { output_dir } = settings;
  const loss = chosenLoss(settings);
  const resume =
    settings.resume_from_checkpoint === true ? 'latest' : settings.resume_from_checkpoint || undefined;
  if (!resume) await refuseOldRun(output_dir);
  const data = await loadPoints(settings.dataset, {
    n: settings.n,
    noise: settings.noise,
    seed: settings.data_seed,
    scaling: settings.scaling,
  });
  const trainer = newTrainer(settings, data, loss);
  const result = await withInterrupt(
    'interrupted: saving a checkpoint (Ctrl-C again exits at once)',
    (signal) => trainer.train({ resume_from_checkpoint: resume, signal }),
  );
  if (result.interrupted)
    throw new InterruptedError(
      `stopped at step ${result.global_step} of ${trainer.maxSteps}; go on with --resume latest`,
    );
  const pipelineDir = path.join(output_dir, 'pipeline');
  await trainer.savePipeline(pipelineDir);
  const plots = settings.report_to.includes('jsonl')
    ? await writeTrainingPlots(output_dir, settings.dataset)
    : [];
  const { metrics } = result;
  const summary = metrics
    ? `loss ${metrics.loss.toFixed(5)}, isotropy ${metrics.isotropy.toFixed(4)}`
    : 'nothing was left to do';
  console.log(`step ${result.global_step}: ${summary}`);
  console.log([`pipeline: ${pipelineDir}`, ...plots.map((plot) => `plot: ${plot}`)].join('\n'));
}

function chosenLoss({ loss, lambda }: Settings<typeof options>) {
  if (loss === 'iso') return isoLoss({ lambda: lambda ?? 0.1 });
  if (lambda !== undefined)
    throw new InvalidArgumentError(`--lambda is ${lambda}, but the loss 'simple' has none: use --loss iso`);
  return simpleLoss();
}

function newTrainer(settings: Settings<typeof options>, data: PointSet, loss: ReturnType<typeof simpleLoss>) {
  const { num_train_timesteps, hidden_features, num_hidden_layers } = settings;
  const args = Object.fromEntries(
    Object.keys(trainingOptions).map((key) => [key, settings[key as keyof typeof trainingOptions]]),
  ) as Settings<typeof trainingOptions>;
  return new Trainer({
    model: new ConditionalDense({
      in_features: data.dims,
      num_train_timesteps,
      hidden_features,
      num_hidden_layers,
    }),
    args,
    train_dataset: data,
    loss,
    // Clipping would cut off what lies outside [-1, 1]; the paper's reverse process has none.
    noise_scheduler: new DDPMScheduler({
      num_train_timesteps,
      prediction_type: settings.prediction_type,
      beta_schedule: settings.beta_schedule,
      clip_sample: false,
    }),
    callbacks: [consoleProgress()],
  });
}

function consoleProgress(): TrainerCallback {
  let bar: ReturnType<typeof progressBar> | undefined;
  return {
    onCheckpointSkipped: ({ dir, error }) => {
      process.stderr.write(`warning: ${dir} is damaged and left out: ${error.message}\n`);
    },
    onTrainBegin: (state) => {
      bar = progressBar('train', state.max_steps);
      bar.update(state.global_step);
    },
    onStep: (state, metrics) =>
      bar?.update(
        state.global_step,
        `loss ${metrics.loss.toFixed(4)} isotropy ${metrics.isotropy.toFixed(3)} ${state.steps_per_second.toFixed(0)} steps/s`,
      ),
    onTrainEnd: () => bar?.stop(),
  };
}

/** A new run in the folder of an old one would mix their checkpoints. */
async function refuseOldRun(outputDir: string): Promise<void> {
  const names = await readdir(outputDir).catch(() => []);
  const old = names.find((name) => /^checkpoint-\d+$/.test(name));
  if (old)
    throw new InvalidArgumentError(
      `${path.join(outputDir, old)} is there already: go on with --resume latest, or choose another --output`,
    );
}
