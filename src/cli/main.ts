import { Command, CommanderError } from 'commander';
import { IsoDiffusionError, NonFiniteLossError } from '../errors.ts';
import { environment } from '../experiments/jobs/job.ts';
import { nearestName } from '../registry.ts';
import { INTERRUPTED_STATUS, InterruptedError } from '../terminal/interrupt.ts';
import { addAnalyzeCommand } from './commands/analyze.ts';
import { addConvertExtractorCommand } from './commands/convert-extractor.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addEvaluateCommand } from './commands/evaluate.ts';
import { addFromDiffusersCommand } from './commands/from-diffusers.ts';
import { addGenerateCommand } from './commands/generate/generate.ts';
import { addPushCommand } from './commands/push.ts';
import { addReproduceCommand } from './commands/reproduce.ts';
import { addStatisticsCommand } from './commands/statistics.ts';
import { addSweepCommand } from './commands/sweep.ts';
import { addTrainCommand } from './commands/train/train.ts';
import { longFlags } from './options/command-options.ts';
import { whyRefused } from './options/diffusers-flags.ts';
import { meantName } from './options/option-names.ts';

/**
 * Runs the command line.
 *
 * @param argv without node and the script.
 * @returns the exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
 */
export async function main(argv: readonly string[]): Promise<number> {
  watchOutput();
  const program = buildProgram();
  try {
    await program.parseAsync(argv.map(withHyphens), { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return usageStatus(error, program, argv[0]);
    return report(error);
  }
}

/** Ends the process where its output cannot be written. */
function watchOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // A reader that stops early, such as `head`, is not a failure.
    if (error.code === 'EPIPE') process.exit(0);
    process.stderr.write(`error: the output cannot be written: ${error.message}\n`);
    process.exit(1);
  });
  // Nobody is left to be told.
  process.stderr.on('error', () => undefined);
}

/** `--learning_rate` is `--learning-rate`, as in Python's scripts. */
function withHyphens(argument: string): string {
  return argument.replace(/^--\w[\w-]*/, (flag) => flag.replaceAll('_', '-'));
}

function buildProgram(): Command {
  const program = new Command('iso-diffusion')
    .description('Train diffusion models with the Iso-Diffusion loss, sample from them and evaluate them.')
    .version(environment().package_version)
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
  addTrainCommand(program);
  addGenerateCommand(program);
  addEvaluateCommand(program);
  addStatisticsCommand(program);
  addAnalyzeCommand(program);
  addConvertExtractorCommand(program);
  addDoctorCommand(program);
  addReproduceCommand(program);
  addSweepCommand(program);
  addPushCommand(program);
  addFromDiffusersCommand(program);
  return program;
}

/** Says what was wrong with the arguments, and what was most likely meant. */
function usageStatus({ exitCode, code, message }: CommanderError, program: Command, verb: string | undefined): number {
  if (exitCode === 0) return 0;
  const [, wrong = ''] = /'-*([^'=]*)/.exec(message) ?? [];
  let meant: string | undefined;
  if (code === 'commander.unknownCommand') {
    const commands = program.commands.map((command) => command.name());
    meant = nearestName(wrong, commands);
  } else if (code === 'commander.unknownOption') {
    const reason = verb === 'train' ? whyRefused(wrong) : undefined;
    if (reason !== undefined) {
      process.stderr.write(`error: ${reason}\n`);
      return 2;
    }
    const { options } = program.commands.find((command) => command.name() === verb) ?? program;
    const name = meantName(
      wrong.replaceAll('-', '_'),
      options.flatMap(({ flags }) => longFlags(flags)),
    );
    meant = name && `--${name.replaceAll('_', '-')}`;
  }
  // Help is an error too where no command is named, and has been printed.
  if (message.startsWith('error:'))
    process.stderr.write(`${message}${meant === undefined ? '' : `. Did you mean '${meant}'?`}\n`);
  return 2;
}

function report(error: unknown): number {
  if (error instanceof InterruptedError) {
    process.stderr.write(`${error.message}\n`);
    return INTERRUPTED_STATUS;
  }
  const text = error instanceof Error ? (process.env.DEBUG ? error.stack : error.message) : String(error);
  process.stderr.write(`error: ${text}\n`);
  return error instanceof IsoDiffusionError && !(error instanceof NonFiniteLossError) ? 2 : 1;
}
