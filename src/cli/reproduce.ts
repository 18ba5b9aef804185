import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { z } from 'zod';
import { jobRuns, prepareJobs, runJobs } from '../reproduction/run-jobs.ts';
import { pointJobs, TARGETS, type Target } from '../reproduction/targets.ts';
import { addOptions, option, readSettings, type Settings } from './command-options.ts';
import { withInterrupt } from './interrupt.ts';

const options = {
  runs: option('--runs <count>', z.int().min(1).default(3), 'runs of each cell'),
  epochs: option('--epochs <count>', z.int().min(1).default(1000), 'epochs'),
  seed: option('--seed <seed>', z.int().min(0).default(0), 'seed of the first run'),
  jobs: option('--jobs <count>', z.int().min(1).default(availableParallelism()), 'processes at a time'),
  output: option('--output <folder>', z.string().default('runs/reproduce'), 'where to write'),
  resume: option('--resume', z.boolean().default(false), 'go on with what is there'),
};

export function addReproduceCommand(program: Command): void {
  const command = program
    .command('reproduce <targets...>')
    .description('Reproduce tables and figures of the paper.');
  addOptions(command, options).action(async (targets: Target[], flags) =>
    reproduce(targets, await readSettings(options, flags)),
  );
}

async function reproduce(targets: readonly Target[], settings: Settings<typeof options>): Promise<void> {
  for (const target of targets) z.enum(TARGETS).parse(target);
  const seeds = Array.from({ length: settings.runs }, (_, run) => settings.seed + run);
  const jobs = pointJobs(targets, seeds, {
    points: 10_000,
    epochs: settings.epochs,
    batch_size: 512,
    learning_rate: 1e-3,
    hidden_features: 128,
    num_train_timesteps: 1000,
    num_inference_steps: 1000,
    nearest_k: 5,
    device: 'cpu',
  });
  const runs = jobRuns(settings.output, jobs);
  const open = await prepareJobs(runs, settings.resume);
  const log = (text: string) => process.stderr.write(`${new Date().toISOString()} ${text}\n`);
  log(`${runs.length} jobs, ${open.length} to run`);
  let ended = 0;
  await withInterrupt('interrupted: saving checkpoints', (signal) =>
    runJobs(open, {
      parallel: settings.jobs,
      signal,
      onEnd: (run, error) =>
        log(`${++ended}/${open.length} ${run.name} ${error ? `failed: ${error.message}` : 'done'}`),
    }),
  );
}
