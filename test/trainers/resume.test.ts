import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import type { JsonObject } from '../../src/files/json.ts';
import { readCheckpoint, writeCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { compiledScript } from '../compiled-script.ts';
import { smallTrainer } from './small-trainer.ts';

let script: string;
const MAX_STEPS = { points: 1500, images: 60, latents: 40, autoencoder: 40 };
type Kind = keyof typeof MAX_STEPS;
let folder: string;
beforeAll(async () => {
  script = await compiledScript(new URL('./training-run.ts', import.meta.url));
  folder = mkdtempSync(path.join(tmpdir(), 'iso-resume-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Runs the script; with `killAfter`, kills it by SIGKILL so many milliseconds after its first checkpoint. Returns the time that
 * it took from there.
 */
function run(
  kind: Kind,
  outputDir: string,
  options: { resume?: boolean; killAfter?: number | undefined } = {},
): Promise<{ output: string; killed: boolean; milliseconds: number }> {
  const args = [script, kind, outputDir, String(MAX_STEPS[kind]), ...(options.resume ? ['latest'] : [])];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let begun = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (begun > 0) return;
    begun = performance.now();
    if (options.killAfter !== undefined) setTimeout(() => child.kill('SIGKILL'), options.killAfter);
  });
  return new Promise((resolve) => {
    child.on('close', (_code, signal) =>
      resolve({ output, killed: signal === 'SIGKILL', milliseconds: performance.now() - begun }),
    );
  });
}

const digestOf = (output: string) => /done ([0-9a-f]{64})/.exec(output)?.[1];
/** The log without what depends on the clock. */
const logOf = (directory: string) =>
  readFileSync(path.join(directory, 'metrics.jsonl'), 'utf8').replaceAll(/,?"steps_per_second":[^,}]*/g, '');

describe('resuming', () => {
  it.each([
    ['points', 10, 60],
    ['images', 3, 400],
    ['latents', 1, 200],
    ['autoencoder', 1, 400],
  ] as const)(
    '%s: after SIGKILL at %i random moments ends with the bits of an unbroken run',
    async (kind, wanted, within) => {
      const unbroken = path.join(folder, kind, 'unbroken');
      const whole = await run(kind, unbroken);
      const expected = digestOf(whole.output);
      expect(expected).toBeDefined();
      const latest = Math.min(within, whole.milliseconds / (2 * wanted));

      const broken = path.join(folder, kind, 'broken');
      let kills = 0;
      let last = '';
      for (let attempt = 0; attempt < 80 && !digestOf(last); attempt++) {
        // Random on purpose: the promise is about any moment.
        const result = await run(kind, broken, {
          resume: true,
          killAfter: kills < wanted ? Math.random() * latest : undefined,
        });
        if (result.killed) kills += 1;
        last = result.output;
        // Where this process had no time, the run was over before the last kill.
        if (kills < wanted && digestOf(last)) {
          rmSync(broken, { recursive: true });
          [kills, last] = [0, ''];
        }
      }
      expect(kills).toBeGreaterThanOrEqual(wanted);
      expect(digestOf(last)).toBe(expected);
      expect(logOf(broken)).toBe(logOf(unbroken));
    },
    300_000,
  );

  it('refuses a checkpoint of another run and says what differs', async () => {
    const output_dir = path.join(folder, 'other');
    await smallTrainer({ output_dir, max_steps: 10 }).train();
    const other = smallTrainer({ output_dir, max_steps: 20, adam_beta1: 0.8, seed: 4, learning_rate: 1e-2 });
    const resumed = other.train({ resume_from_checkpoint: 'latest' });
    await expect(resumed).rejects.toThrow(CheckpointError);
    await expect(resumed).rejects.toThrow(
      /is of another run: adam_beta1 is 0.9 there and 0.8 here; seed is 0 there and 4 here\. /,
    );
  });

  it('refuses a checkpoint of a version that drew other random numbers', async () => {
    const output_dir = path.join(folder, 'old-scheme');
    await smallTrainer({ output_dir, max_steps: 2 }).train();
    const dir = path.join(output_dir, 'checkpoint-2');
    const { tensors, state } = await readCheckpoint(dir);
    const { random_scheme, ...run } = state.run as JsonObject;
    expect(random_scheme).toBe(2);
    rmSync(dir, { recursive: true });
    await writeCheckpoint(output_dir, 2, { tensors, state: { ...state, run } });
    const resumed = smallTrainer({ output_dir, max_steps: 4 }).train({ resume_from_checkpoint: 'latest' });
    await expect(resumed).rejects.toThrow(CheckpointError);
    await expect(resumed).rejects.toThrow(
      /draws other noise and timesteps from the seed \(random_scheme 1; here it is 2\)/,
    );
  });

  it('passes over a damaged newest checkpoint', async () => {
    const output_dir = path.join(folder, 'damaged');
    await smallTrainer({ output_dir, max_steps: 20, save_total_limit: 5 }).train();
    cpSync(
      path.join(output_dir, 'checkpoint-10', 'state.safetensors'),
      path.join(output_dir, 'checkpoint-20', 'state.safetensors'),
    );
    const saved: number[] = [];
    const trainer = smallTrainer({ output_dir, max_steps: 20 }, [
      { onSave: (state) => void saved.push(state.global_step) },
    ]);
    await trainer.train({ resume_from_checkpoint: 'latest' });
    expect(saved).toEqual([20]);
  });
});
