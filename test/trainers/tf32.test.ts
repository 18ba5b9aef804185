import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { pipeline } from '../../src/pipelines/index.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import type * as devices from '../../src/runtime/device.ts';
import type * as sessions from '../../src/runtime/session.ts';
import { readCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import type { LoggedRun } from '../../src/trainers/logging/run-logger.ts';
import { circle, smallTrainer } from './small-trainer.ts';

// A machine with cuda, whose sessions are in truth those of the cpu.
vi.mock('../../src/runtime/device.ts', async (actual) => ({
  ...(await actual<typeof devices>()),
  resolveDevice: async () => 'cuda',
}));
vi.mock('../../src/runtime/session.ts', async (actual) => {
  const { Session, ...others } = await actual<typeof sessions>();
  const onCpu = {
    create: (model: Uint8Array, _device: string, options: object) => Session.create(model, 'cpu', options),
  };
  return { ...others, Session: onCpu };
});

const folder = mkdtempSync(path.join(tmpdir(), 'iso-trained-tf32-'));
afterAll(() => {
  configureRuntime({ tf32: true });
  rmSync(folder, { recursive: true, force: true });
});

it('is set for a run on cuda, recorded, and noted where a continuation has another', async () => {
  const logged: unknown[] = [];
  const logger = { begin: ({ settings }: LoggedRun) => void logged.push(settings.tf32), log: () => {} };
  const run = async (max_steps: number, tf32: boolean | undefined) => {
    const args = { output_dir: folder, device: 'cuda', save_steps: 1, max_steps, tf32 } as const;
    const warnings: string[] = [];
    const trainer = smallTrainer(args, [], circle(), [logger], (message) => void warnings.push(message));
    await trainer.train({ resume_from_checkpoint: 'latest' });
    const { state } = await readCheckpoint(path.join(folder, `checkpoint-${max_steps}`));
    return { state, warnings };
  };
  expect(await run(1, false)).toMatchObject({ state: { run: { arguments: { tf32: false } } }, warnings: [] });
  expect(process.env.NVIDIA_TF32_OVERRIDE).toBe('0');
  // As it is in this process by now.
  expect(await run(2, undefined)).toMatchObject({ state: { run: { arguments: { tf32: false } } }, warnings: [] });
  const changed = await run(3, true);
  expect(process.env.NVIDIA_TF32_OVERRIDE).toBeUndefined();
  expect(changed.warnings.join()).toMatch(/resumed at step 2 with tf32 true instead of false/);
  expect(changed.state.changes).toContainEqual({ name: 'tf32', from: false, to: true, step: 3 });
  expect(logged).toEqual([false, false, true]);
});

it('is set for a pipeline', async () => {
  const trainer = smallTrainer({ output_dir: folder, device: 'cuda', max_steps: 1 });
  await trainer.savePipeline(path.join(folder, 'pipeline'));
  expect(process.env.NVIDIA_TF32_OVERRIDE).toBeUndefined();
  const task = 'unconditional-point-generation';
  const generate = await pipeline(task, path.join(folder, 'pipeline'), { device: 'cuda', tf32: false });
  expect(process.env.NVIDIA_TF32_OVERRIDE).toBe('0');
  await generate.dispose();
});
