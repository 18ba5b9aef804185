import { Command, CommanderError } from 'commander';
import { IsoDiffusionError, NonFiniteLossError } from '../errors.ts';
import { environment } from '../reproduce/jobs/job.ts';
import { addAnalyzeCommand } from './commands/analyze.ts';
import { addConvertExtractorCommand } from './commands/convert-extractor.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addEvaluateCommand } from './commands/evaluate.ts';
import { addGenerateCommand } from './commands/generate/generate.ts';
import { addReproduceCommand } from './commands/reproduce.ts';
import { addStatisticsCommand } from './commands/statistics.ts';
import { addTrainCommand } from './commands/train/train.ts';
import { INTERRUPTED_STATUS, InterruptedError } from './ui/interrupt.ts';

/**
 * Runs the command line.
 *
 * @param argv without node and the script.
 * @returns the exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
 */
export async function main(argv: readonly string[]): Promise<number> {
  // A reader that stops early, such as `head`, is not a failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
  try {
    await buildProgram().parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    return report(error);
  }
}

function buildProgram(): Command {
  const program = new Command('iso-diffusion')
    .description('Train diffusion models with the Iso-Diffusion loss, sample from them and evaluate them.')
    .version(environment().package_version)
    .exitOverride()
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion train --dataset swiss-roll --lambda 0.1 --output runs/swiss-roll
  iso-diffusion generate --model runs/swiss-roll/pipeline --out points.csv
  iso-diffusion train --dataset ./photos --resolution 32 --ema --output runs/photos
  iso-diffusion generate --model runs/photos/pipeline --scheduler ddim --steps 50 --out grid.png
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
  return program;
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof InterruptedError) {
    process.stderr.write(`${error.message}\n`);
    return INTERRUPTED_STATUS;
  }
  const text = error instanceof Error ? (process.env.DEBUG ? error.stack : error.message) : String(error);
  process.stderr.write(`error: ${text}\n`);
  return error instanceof IsoDiffusionError && !(error instanceof NonFiniteLossError) ? 2 : 1;
}
