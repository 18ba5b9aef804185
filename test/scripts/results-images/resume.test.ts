import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('../../../scripts/results-images/main.ts', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'results-images-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Trains six tiny models: part of `npm run test:long`. */
describe('scripts/results-images', () => {
  const start = (name: string) => {
    const output = path.join(folder, name);
    const report = ['--report', path.join(output, 'report', 'results-images.md')];
    const args = ['--set', 'digits', '--seeds', '1', '--quick', '--steps', '12', '--output', output, ...report];
    return spawn(process.execPath, ['--import', 'tsx', script, ...args], { stdio: 'ignore' });
  };
  const bytes = (name: string, file: string) => readFileSync(path.join(folder, name, file));
  /** A file of the report without the time, which is not the same twice. */
  const text = (name: string, file: string) =>
    bytes(name, `report/${file}`)
      .toString()
      .replace(/in [\d.]+ (h|min|s) of processor time.*/, '')
      .replace(/"cpu_seconds": [\d.]+/g, '');

  it('writes the same bytes after it was killed and started again', async () => {
    const [code] = await once(start('whole'), 'exit');
    expect(code).toBe(0);
    // In the middle of the first models: a checkpoint is there, and no samples are.
    const cell = path.join(folder, 'killed/cells/digits-lambda-0-seed-0');
    const isTrained = () => existsSync(path.join(cell, 'cell.json'));
    const files = () => (existsSync(path.join(cell, 'training')) ? readdirSync(path.join(cell, 'training')) : []);
    const hasCheckpoint = () => files().some((file) => file.startsWith('checkpoint-'));
    // A machine that leaves this process no time can end the first model before the run is killed.
    let attempts = 0;
    do {
      rmSync(path.join(folder, 'killed'), { recursive: true, force: true });
      const killed = start('killed');
      const ended = once(killed, 'exit');
      while (killed.exitCode === null && !hasCheckpoint() && !isTrained()) await wait(20);
      killed.kill('SIGKILL');
      await ended;
      attempts += 1;
    } while (isTrained() && attempts < 5);
    expect([hasCheckpoint(), isTrained()]).toEqual([true, false]);
    const [again] = await once(start('killed'), 'exit');
    expect(again).toBe(0);
    for (const cell of readdirSync(path.join(folder, 'whole/cells')))
      for (const file of ['samples.u8', 'cell.json', 'metrics.json', 'copies.json'])
        expect(bytes('killed', `cells/${cell}/${file}`), `${cell}/${file}`).toEqual(
          bytes('whole', `cells/${cell}/${file}`),
        );
    for (const file of ['images/results-digits-samples.png', 'images/results-digits-isotropy.png'])
      expect(bytes('killed', `report/${file}`), file).toEqual(bytes('whole', `report/${file}`));
    for (const file of ['results-images.md', 'results-images.json'])
      expect(text('killed', file), file).toBe(text('whole', file));
    const report = text('whole', 'results-images.md');
    expect(report).toContain('| 0.05 | isotropy');
    expect(report).not.toMatch(/NaN|undefined/);
  }, 600_000);
});
