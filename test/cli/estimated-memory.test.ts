import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { runCli } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-estimate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
// Of a process that is run with it, in KiB.
writeFileSync(
  path.join(folder, 'peak.mjs'),
  `process.on('exit', () => process.stderr.write('peak ' + process.resourceUsage().maxRSS + '\\n'));`,
);

const images = ['--dataset', 'digits', '--resolution', '16', '--max-steps', '2', '--ema'];
// A graph of gradients beside a state of its own; the same with a pass for the means over the batches; a Loop with whole steps.
it.each([
  ['one batch', [...images, '--batch-size', '64'], 300],
  ['two batches', [...images, '--batch-size', '48', '--gradient-accumulation-steps', '2'], 300],
  ['points', ['--dataset', 'swiss-roll', '--max-steps', '200'], 120],
])(
  'the memory of a real run is within a third of the estimate: %s',
  async (name, flags, least) => {
    const train = ['train', ...flags, '--sample-every', '0', '--report-to', 'jsonl', '--output', name];
    const { code, stderr } = await runCli([...train, '--device', 'cpu', '--import', './peak.mjs'], folder);
    expect(code).toBe(0);
    const measured = Number(/^peak (\d+)$/m.exec(stderr)?.[1]) / 1024;
    expect(measured).toBeGreaterThan(least);
    const { stdout } = await runCli(['estimate', ...flags, '--device', 'cpu', '--no-measure', '--json'], folder);
    const ratio = JSON.parse(stdout).run.memory_bytes / 2 ** 20 / measured;
    expect(ratio).toBeGreaterThan(0.75);
    expect(ratio).toBeLessThan(1.33);
  },
  300_000,
);
