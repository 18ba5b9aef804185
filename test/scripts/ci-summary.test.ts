import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-ci-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => path.join(folder, name);

const STAGE = `
import { beforeAll, describe, expect, it } from 'vitest';
it('passes', () => {});
it.skip('is left out', () => {});
it('differs', () => expect({ a: 1 }).toEqual({ a: 2 }));
it('takes too long', () => new Promise(() => {}), 50);
it('leaves something behind', () => void Promise.reject(new Error('nobody waits')));
describe('a group', () => {
  beforeAll(() => { throw new Error('in a hook'); });
  it('is not run', () => {});
});
`;

it('the summary of .ci/run names every failure, of hooks and of what no test awaits too, and stages that just end', () => {
  symlinkSync(path.resolve('node_modules'), at('node_modules'), 'junction');
  writeFileSync(at('stage.test.ts'), STAGE);
  const vitest = path.resolve('node_modules/vitest/vitest.mjs');
  const args = [vitest, 'run', '--root', folder, '--reporter', path.resolve('.ci/stage-reporter.ts')];
  const { status } = spawnSync(process.execPath, args, { env: { ...process.env, STAGE_REPORT: at('some.json') } });
  expect(status).toBe(1);
  writeFileSync(at('stages'), 'build\t0\t5\nsome\t1\t7\nother\t137\t3\n');
  writeFileSync(at('other.output'), 'first\nKilled\n');
  const { stdout } = spawnSync(process.execPath, ['.ci/summary.mjs', folder], { encoding: 'utf8' });
  expect(stdout).toContain('build: 5 s\nsome: 7 s, 2 passed, 4 failed, 2 skipped, exit status 1\n');
  for (const text of [
    'stage.test.ts > differs\n    AssertionError: expected { a: 1 } to deeply equal { a: 2 }',
    'stage.test.ts > takes too long\n    Error: Test timed out in 50ms.',
    'stage.test.ts > a group (file or hook)\n    Error: in a hook',
    'an error that no test awaits\n    Error: nobody waits',
    'other: 3 s, exit status 137\n    first\n    Killed',
  ])
    expect(stdout).toContain(text);
  expect(stdout).toMatch(/\n2 passed, 5 failed\n$/);
}, 120_000);
