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
  /** The sentence on processor and time is not the same twice. */
  const text = (name: string) =>
    bytes(name, 'report/results-images.md')
      .toString()
      .replace(/in [\d.]+ (h|min|s), summed/, '');

  it('writes the same bytes after it was killed and started again', async () => {
    const [code] = await once(start('whole'), 'exit');
    expect(code).toBe(0);
    const killed = start('killed');
    const ended = once(killed, 'exit');
    // In the middle of the first models: a checkpoint is there, and no samples are.
    const training = path.join(folder, 'killed/cells/digits-lambda-0-seed-0/training');
    const hasCheckpoint = () =>
      existsSync(training) && readdirSync(training).some((file) => file.startsWith('checkpoint-'));
    while (!hasCheckpoint()) await wait(20);
    killed.kill('SIGKILL');
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(existsSync(path.join(folder, 'killed/cells/digits-lambda-0-seed-0/cell.json'))).toBe(false);
    const [again] = await once(start('killed'), 'exit');
    expect(again).toBe(0);
    for (const cell of readdirSync(path.join(folder, 'whole/cells')))
      for (const file of ['samples.u8', 'cell.json', 'metrics.json', 'copies.json'])
        expect(bytes('killed', `cells/${cell}/${file}`), `${cell}/${file}`).toEqual(
          bytes('whole', `cells/${cell}/${file}`),
        );
    for (const file of [
      'results-images.json',
      'images/results-digits-samples.png',
      'images/results-digits-isotropy.png',
    ])
      expect(bytes('killed', `report/${file}`), file).toEqual(bytes('whole', `report/${file}`));
    expect(text('killed')).toBe(text('whole'));
    expect(text('whole')).toContain('| 0.05 | isotropy');
    expect(text('whole')).not.toMatch(/NaN|undefined/);
  }, 600_000);
});
