import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { world } from '#distributed/world';
import { InvalidArgumentError, NonFiniteLossError } from '../../../errors.ts';
import { InterruptedError, withInterrupt } from '../../../terminal/interrupt.ts';
import type { Trainer } from '../../../trainers/trainer.ts';
import type { TrainOutput } from '../../../trainers/training-loop.ts';

/** The checkpoint that `--resume` names; `true` is the latest. */
export function resumeFrom(given: string | boolean | undefined): string | undefined {
  return given === true ? 'latest' : given || undefined;
}

/** A new run in the folder of an old one would mix the checkpoints of both. */
export async function refuseOldRun(outputDir: string): Promise<void> {
  const names = await readdir(outputDir).catch(() => []);
  const old = names.find((name) => /^checkpoint-\d+(-\d+)?$/.test(name));
  if (old)
    throw new InvalidArgumentError(
      `${path.join(outputDir, old)} already exists: continue with --resume, or choose another --output`,
    );
}

/**
 * Trains to the end.
 *
 * @throws {InterruptedError} after Ctrl-C, when the checkpoint is saved.
 */
export async function runTrainer(
  trainer: Pick<Trainer, 'train' | 'maxSteps'>,
  resume_from_checkpoint: string | undefined,
): Promise<TrainOutput> {
  // The other ranks of mpirun only take part in the steps.
  const writes = world().rank === 0;
  const notice = writes ? 'interrupted: saving a checkpoint (Ctrl-C again exits at once)' : '';
  const result = await withInterrupt(notice, (signal) =>
    trainer.train({ resume_from_checkpoint, signal }).catch(withAdvice),
  );
  if (!result.interrupted) return result;
  throw new InterruptedError(
    writes
      ? `stopped at step ${result.global_step} of ${trainer.maxSteps}; continue with the same command and --resume`
      : '',
  );
}

/** The trainer's advice after a divergence, in options of the command line. */
function withAdvice(error: unknown): never {
  if (!(error instanceof NonFiniteLossError)) throw error;
  throw new NonFiniteLossError(
    `${error.message}\nUse the same command with --resume and a lower --lr, or with --max-grad-norm. Where there is no checkpoint, leave out --resume.`,
    error.step,
  );
}
