import { Command, CommanderError } from 'commander';
import { IsoDiffusionError, NonFiniteLossError } from '../errors.ts';
import { packageVersion } from '../files/package-files.ts';
import { INTERRUPTED_STATUS, InterruptedError } from '../terminal/interrupt.ts';

interface CommandEntry {
  readonly name: string;
  readonly description: string;
  /** Imports what adds arguments, options, help and action. */
  readonly load: () => Promise<(command: Command) => void>;
}

/** A command is imported when it is named: the others would triple the time to start. */
const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'train',
    description:
      'Train a model on points or images; writes checkpoints, logs, plots, OUTPUT/run.html and OUTPUT/pipeline.',
    load: async () => (await import('./commands/train/train.ts')).defineTrain,
  },
  {
    name: 'estimate',
    description: 'How long a training will take, and which batch fits into memory; takes the options of train.',
    load: async () => (await import('./commands/estimate.ts')).defineEstimate,
  },
  {
    name: 'train-autoencoder',
    description:
      'Train an autoencoder for latent diffusion on images; writes checkpoints, logs and OUTPUT/autoencoder.',
    load: async () => (await import('./commands/train/train-autoencoder.ts')).defineTrainAutoencoder,
  },
  {
    name: 'generate',
    description: 'Sample points, in the units of the training data, or images from a saved model.',
    load: async () => (await import('./commands/generate/generate.ts')).defineGenerate,
  },
  {
    name: 'evaluate',
    description:
      'FID, KID, Inception Score, Precision, Recall, Density and Coverage of generated samples; perceptual path length.',
    load: async () => (await import('./commands/evaluate.ts')).defineEvaluate,
  },
  {
    name: 'statistics',
    description: "Mean and covariance of the features of images, for FID, in pytorch-fid's .npz format.",
    load: async () => (await import('./commands/statistics.ts')).defineStatistics,
  },
  {
    name: 'analyze',
    description:
      'Isotropy (squared norm per element, 1 for white noise) of x_t and of the predicted noise, by timestep.',
    load: async () => (await import('./commands/analyze.ts')).defineAnalyze,
  },
  {
    name: 'convert-extractor',
    description: 'Convert the published weights of a feature extractor (FID Inception v3, VGG16) to ONNX.',
    load: async () => (await import('./commands/convert-extractor.ts')).defineConvertExtractor,
  },
  {
    name: 'doctor',
    description: 'Print versions and devices, what is missing and how to get it.',
    load: async () => (await import('./commands/doctor.ts')).defineDoctor,
  },
  {
    name: 'play',
    description: 'Open a page that trains two models in the browser and shows what lambda does.',
    load: async () => (await import('./commands/play.ts')).definePlay,
  },
  {
    name: 'reproduce',
    description:
      'Reproduce tables and figures of the paper: train, sample, measure, average over runs, and print the published numbers next to ours.',
    load: async () => (await import('./commands/reproduce.ts')).defineReproduce,
  },
  {
    name: 'sweep',
    description:
      'Which weight of the isotropy penalty? Paired runs over weights and seeds, and one page that compares them.',
    load: async () => (await import('./commands/sweep.ts')).defineSweep,
  },
  {
    name: 'compare',
    description: 'Runs that exist side by side: settings that differ, curves, samples from the same noise, metrics.',
    load: async () => (await import('./commands/compare.ts')).defineCompare,
  },
  {
    name: 'push',
    description: 'Upload a saved pipeline to the Hugging Face Hub, with its model card.',
    load: async () => (await import('./commands/push.ts')).definePush,
  },
  {
    name: 'from-diffusers',
    description:
      "Print the command that does what a command of diffusers' train_unconditional.py does, and what differs.",
    load: async () => (await import('./commands/from-diffusers.ts')).defineFromDiffusers,
  },
];

/**
 * Runs the command line.
 *
 * @param argv without node and the script.
 * @returns the exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
 */
export async function main(argv: readonly string[]): Promise<number> {
  watchOutput();
  const [verb, named] = argv;
  const program = await buildProgram(verb === 'help' ? named : verb);
  try {
    await program.parseAsync(argv.map(withHyphens), { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return usageStatus(error, program, verb);
    return report(error);
  }
}

/**
 * Ends the process where its output cannot be written. The listeners stay, because output that is under way can still fail
 * after `main`; a second call of `main` adds no others.
 */
function watchOutput(): void {
  process.stdout.off('error', endProcess).on('error', endProcess);
  process.stderr.off('error', ignore).on('error', ignore);
}

function endProcess(error: NodeJS.ErrnoException): void {
  // A reader that stops early, such as `head`, is not a failure.
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`error: the output cannot be written: ${error.message}\n`);
  process.exit(1);
}

/** Nobody is left to be told. */
const ignore = (): void => undefined;

/** `--learning_rate` is `--learning-rate`, as in Python's scripts. */
export function withHyphens(argument: string): string {
  return argument.replace(/^--\w[\w-]*/, (flag) => flag.replaceAll('_', '-'));
}

/** @param verb the command whose options are needed. */
export async function buildProgram(verb: string | undefined): Promise<Command> {
  const program = new Command('iso-diffusion')
    .description('Train diffusion models with the Iso-Diffusion loss, sample from them and evaluate them.')
    .version(packageVersion())
    .exitOverride()
    .showSuggestionAfterError(false)
    .configureOutput({ outputError: () => undefined })
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion train --dataset swiss-roll --lambda 0.1 --output runs/swiss-roll
  iso-diffusion generate --model runs/swiss-roll/pipeline --scheduler dpm++-karras --steps 20 --out points.csv
  iso-diffusion train --dataset ./photos --resolution 32 --ema --output runs/photos
  iso-diffusion generate --model runs/photos/pipeline --scheduler dpm++ --steps 20 --out grid.png
  iso-diffusion COMMAND --help

Exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
DEBUG=1 prints the stack of an error.`,
    );
  for (const { name, description, load } of COMMANDS) {
    const command = program.command(name).description(description);
    if (name === verb) (await load())(command);
  }
  return program;
}

/** Says what was wrong with the arguments, and what was most likely meant. */
async function usageStatus(error: CommanderError, program: Command, verb: string | undefined): Promise<number> {
  if (error.exitCode === 0) return 0;
  const { usageErrorText } = await import('./options/usage-error.ts');
  process.stderr.write(usageErrorText(error, program, verb));
  return 2;
}

function report(error: unknown): number {
  if (error instanceof InterruptedError) {
    // Of the ranks of mpirun, one says it.
    if (error.message !== '') process.stderr.write(`${error.message}\n`);
    return INTERRUPTED_STATUS;
  }
  const text = error instanceof Error ? (process.env.DEBUG ? error.stack : error.message) : String(error);
  process.stderr.write(`error: ${text}\n`);
  return error instanceof IsoDiffusionError && !(error instanceof NonFiniteLossError) ? 2 : 1;
}
