import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { smallImageTrainer } from './small-image-trainer.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-checkpointing-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function gradientsInChild(checkpointing: boolean): { mebibytes: number; digest: string } {
  const script = fileURLToPath(new URL('./peak-memory.ts', import.meta.url));
  const output = execFileSync(process.execPath, ['--import', 'tsx', script, String(checkpointing)], {
    encoding: 'utf8',
  });
  return JSON.parse(output);
}

describe('gradient_checkpointing', () => {
  it('gives the same gradients bit for bit in less memory', () => {
    const [kept, recomputed] = [gradientsInChild(false), gradientsInChild(true)];
    expect(recomputed.digest).toBe(kept.digest);
    expect(recomputed.mebibytes).toBeLessThan(0.75 * kept.mebibytes);
  }, 60_000);

  // In one graph in a Loop, and split into gradients and update; dropout has to draw the same mask twice.
  it.each([1, 2])('may be turned on when a run is resumed, %i batches a step', async (batches) => {
    const trainer = (name: string, args: Partial<TrainingArguments>) =>
      smallImageTrainer(
        {
          output_dir: path.join(folder, `${name}-${batches}`),
          max_steps: 4,
          gradient_accumulation_steps: batches,
          lr_scheduler_type: 'constant',
          ...args,
        },
        [],
        0.1,
        { dropout: 0.2 },
      );
    const unbroken = trainer('unbroken', {});
    await unbroken.train();
    await trainer('broken', { max_steps: 2 }).train();
    const resumed = trainer('broken', { gradient_checkpointing: true });
    await resumed.train({ resume_from_checkpoint: 'latest' });
    for (const ema of [false, true]) expect([...resumed.weights({ ema })]).toEqual([...unbroken.weights({ ema })]);
  });
});
