import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/iso-at-sampling/main.ts', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'iso-at-sampling-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Trains about twenty tiny models and draws from them: `npm run test:slow`. */
describe.runIf(process.env.MODE === 'slow')('scripts/iso-at-sampling', () => {
  const start = (name: string) =>
    spawn(
      process.execPath,
      [
        ...['--import', 'tsx', script, '--output', path.join(folder, name), '--report', reportOf(name)],
        ...['--seeds', '2', '--epochs', '1', '--samples', '60', '--steps', '4', '--jobs', '2'],
      ],
      { stdio: 'ignore' },
    );
  const reportOf = (name: string) => path.join(folder, name, 'report', 'study.md');
  /** The report without the time that it took. */
  const report = (name: string) => readFileSync(reportOf(name), 'utf8').replace(/[\d.]+ (h|min|s) of processor/, '');
  const exitOf = async (child: ChildProcess) => (await once(child, 'exit'))[0];

  it('writes the same report after it was killed and started again', async () => {
    expect(await exitOf(start('whole'))).toBe(0);
    const killed = start('killed');
    const jobs = path.join(folder, 'killed', 'jobs');
    while (!existsSync(jobs) || readdirSync(jobs).length < 40) await wait(50);
    killed.kill('SIGKILL');
    expect(await exitOf(killed)).toBe(null);
    expect(await exitOf(start('killed'))).toBe(0);
    expect(report('killed')).toBe(report('whole'));
    expect(report('whole')).toContain('## Digits');
    const plots = readdirSync(path.dirname(reportOf('whole')), { recursive: true }).map(String);
    expect(plots.filter((file) => file.endsWith('.png'))).toHaveLength(9);
    expect(readFileSync(reportOf('whole'), 'utf8')).not.toContain('NaN');
  }, 900_000);
});
