import { writeFileSync } from 'node:fs';
import type { SerializedError } from 'vitest';
import type { Reporter, TestModule, TestSuite } from 'vitest/node';

/** What one stage of .ci/run did. */
interface StageReport {
  passed: number;
  failed: number;
  skipped: number;
  /** Each failure: its name and the first lines of its error. */
  readonly failures: string[];
}

const MAX_LINES = 5;
const MAX_COLUMNS = 300;

/**
 * Writes the counts and the failures of a run to `STAGE_REPORT` as JSON. The `json` reporter of vitest has neither the errors
 * of hooks nor those that no test awaits, and no message of a test that took too long.
 */
export default class StageReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const report: StageReport = { passed: 0, failed: 0, skipped: 0, failures: [] };
    const fail = (name: string, [error, ...others]: readonly SerializedError[]) => {
      report.failed++;
      report.failures.push([name, ...linesOf(error, others.length)].join('\n'));
    };
    for (const module of modules) {
      const suites: (TestModule | TestSuite)[] = [module, ...module.children.allSuites()];
      for (const suite of suites) {
        const errors = suite.errors();
        const name = suite === module ? '' : ` > ${(suite as TestSuite).fullName}`;
        if (errors.length > 0) fail(`${module.relativeModuleId}${name} (file or hook)`, errors);
      }
      for (const test of module.children.allTests()) {
        const { state, errors = [] } = test.result();
        if (state === 'failed') fail(`${module.relativeModuleId} > ${test.fullName}`, errors);
        else if (state === 'passed') report.passed++;
        else report.skipped++;
      }
    }
    for (const error of unhandled) fail('an error that no test awaits', [error]);
    if (process.env.STAGE_REPORT) writeFileSync(process.env.STAGE_REPORT, JSON.stringify(report));
  }
}

function linesOf(error: SerializedError | undefined, others: number): string[] {
  if (!error) return ['no error was told'];
  const { name = 'Error', message, diff, stacks = [] } = error;
  const [place] = stacks;
  const text = [
    `${name}: ${message}`,
    place ? `at ${place.file}:${place.line}:${place.column}` : '',
    others > 0 ? `and ${others} more errors` : '',
    typeof diff === 'string' ? diff : '',
  ].join('\n');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours of a terminal.
  const lines = text.replaceAll(/\u001b\[[\d;]*m/g, '').split('\n');
  return lines
    .filter((line) => line.trim() !== '')
    .slice(0, MAX_LINES)
    .map((line) => line.slice(0, MAX_COLUMNS));
}
