import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileFormatError } from '../../src/errors.ts';
import { JsonlLogger } from '../../src/trainers/logging/jsonl-logger.ts';

let root: string;
let path: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'iso-jsonl-'));
  path = join(root, 'run/metrics.jsonl');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function logSteps(from: number, to: number, resume_step?: number): void {
  const logger = new JsonlLogger(path, { resume_step });
  for (let step = from; step <= to; step++) logger.log(step, { loss: 1 / step, learning_rate: 1e-3 });
  logger.close();
}

describe('JsonlLogger', () => {
  it('writes one JSON object a line, at once', () => {
    const logger = new JsonlLogger(path);
    logger.log(1, { loss: 0.5, 'grad/norm': 1e-7 });
    logger.log(2, { loss: Number.NaN });
    expect(readFileSync(path, 'utf8')).toBe('{"step":1,"loss":0.5,"grad/norm":1e-7}\n{"step":2,"loss":null}\n');
    logger.close();
  });

  it('starts empty without resume_step', () => {
    logSteps(1, 5);
    logSteps(1, 2);
    expect(readFileSync(path, 'utf8').split('\n')).toHaveLength(3);
  });

  it.each([0, 1, 437, 999, 1000])('resumed at step %i equals the unbroken log', (step) => {
    logSteps(1, 2000);
    const unbroken = readFileSync(path, 'utf8');
    logSteps(1, 1000);
    logSteps(step + 1, 2000, step);
    expect(readFileSync(path, 'utf8')).toBe(unbroken);
  });

  it('removes a torn last line, with or without the zeros of a power failure', () => {
    logSteps(1, 9);
    const whole = readFileSync(path, 'utf8');
    for (const torn of ['{"step":10,"lo', '{"step":10}', '\0\0\0']) {
      appendFileSync(path, torn);
      logSteps(1, 0, 9);
      expect(readFileSync(path, 'utf8')).toBe(whole);
    }
  });

  it('keeps good records after a damaged line', () => {
    logSteps(1, 9);
    const damaged = readFileSync(path, 'utf8').replace('{"step":4', '{"stXp":4').replace('{"step":5', 'x"step":5');
    writeFileSync(path, damaged);
    logSteps(8, 8, 7);
    expect(readFileSync(path, 'utf8')).toBe(damaged.split('\n').slice(0, 8).join('\n').concat('\n'));
  });

  it('resumes a log that does not exist yet', () => {
    logSteps(1, 1, 0);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({ step: 1, loss: 1, learning_rate: 1e-3 });
  });

  it('refuses a file that is no log and leaves it alone', () => {
    logSteps(1, 1);
    const other = 'x'.repeat(3_000_000);
    writeFileSync(path, other);
    expect(() => new JsonlLogger(path, { resume_step: 5 })).toThrow(FileFormatError);
    expect(readFileSync(path, 'utf8')).toBe(other);
  });
});
