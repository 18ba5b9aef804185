import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { hasWebgpu } from './software-webgpu.ts';

it.skipIf(!hasWebgpu)(
  'gpu-check finds that webgpu computes rightly, and writes what it found',
  async () => {
    const output = await mkdtemp(path.join(tmpdir(), 'gpu-check-'));
    onTestFinished(() => rm(output, { recursive: true, force: true }));
    const sections = ['gradients', 'sampling'].flatMap((name) => ['--only', name]);
    const args = ['scripts/gpu-check/main.ts', '--device', 'webgpu', '--quick', '--output', output, ...sections];
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', ...args]);
    expect(stdout).toMatch(/^gradients webgpu float32 batch 4 .*ddpm-style: loss /m);
    const { machine, outcomes } = JSON.parse(await readFile(path.join(output, 'gpu-check.json'), 'utf8'));
    expect(machine.quick).toBe(true);
    // In float16 too where the adapter can.
    expect(outcomes.length).toBeGreaterThanOrEqual(2);
    for (const { failure } of outcomes) expect(failure).toBeUndefined();
    const report = await readFile(path.join(output, 'gpu-check.md'), 'utf8');
    expect(report).toContain('| webgpu | float32 | 4 |');
    expect(report).toContain('## Sampling');
  },
  280_000,
);
