// The end of .ci/run: `node summary.mjs FOLDER` prints each stage with its counts and failures, and `N passed, M failed`.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const [folder = '.'] = process.argv.slice(2);
const read = (name) => {
  const file = path.join(folder, name);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
};
const indented = (text) => text.trimEnd().replaceAll(/^/gm, '    ');

const total = { passed: 0, failed: 0 };
console.log('\nSummary');
for (const line of read('stages').trimEnd().split('\n')) {
  const [name, code, seconds] = line.split('\t');
  const report = JSON.parse(read(`${name}.json`) || 'null');
  const { passed = 0, failed = 0, skipped = 0, failures = [] } = report ?? {};
  const counts = report ? `, ${passed} passed, ${failed} failed, ${skipped} skipped` : '';
  console.log(`${name}: ${seconds} s${counts}${code === '0' ? '' : `, exit status ${code}`}`);
  for (const failure of failures) console.log(indented(failure));
  // Nothing that could be counted failed: the end of the output has to say why.
  const untold = code !== '0' && failures.length === 0;
  if (untold) console.log(indented(read(`${name}.output`).trimEnd().split('\n').slice(-15).join('\n')));
  total.passed += passed;
  total.failed += failed + (untold ? 1 : 0);
}
console.log(`${total.passed} passed, ${total.failed} failed`);
