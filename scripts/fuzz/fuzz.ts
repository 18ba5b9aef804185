/*
 * `npm run fuzz -- N`: N damaged files, divided among all readers. See ../README.md.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { readers } from './readers/index.ts';
import { divided, type FuzzResult, fuzz } from './run.ts';
import { type Finding, runBatch } from './watch.ts';

const registry = fileURLToPath(new URL('readers/index.ts', import.meta.url));
const hangAfter = 5000;

function wholeNumber(text: string): number {
  if (!/^\d{1,12}$/.test(text)) throw new InvalidArgumentError('it must be a whole number.');
  return Number(text);
}

const program = new Command('fuzz')
  .description('Gives damaged files to every reader, and reports crashes, hangs, runaway memory and foreign errors.')
  .argument('[cases]', 'how many files', wholeNumber, 1000)
  .option('--seed <number>', 'another seed gives other files', wholeNumber, 0)
  .option('--reader <name...>', `only these: ${Object.keys(readers).join(', ')}`)
  .option('--case <number>', 'only this case of the reader; its input is kept', wholeNumber)
  .option('--jobs <number>', 'processes at a time (default: one a core)', wholeNumber)
  .parse();

interface Options {
  readonly seed: number;
  readonly reader?: readonly string[];
  readonly case?: number;
  readonly jobs?: number;
}
const options = program.opts<Options>();
const { seed } = options;
const unknown = options.reader?.find((name) => !(name in readers));
if (unknown !== undefined) program.error(`there is no reader '${unknown}': use ${Object.keys(readers).join(', ')}`);
const chosen = Object.fromEntries(
  Object.entries(readers).filter(([name]) => options.reader === undefined || options.reader.includes(name)),
);

const root = await mkdtemp(path.join(tmpdir(), 'iso-fuzz-'));
if (options.case === undefined) {
  const counts = divided(Number(program.processedArgs[0]), chosen);
  const result = await fuzz(
    counts,
    { registry, seed, root, hangAfter },
    {
      ...(options.jobs ? { jobs: options.jobs } : {}),
      onBatch: (batch, { findings, reached }) =>
        process.stderr.write(`${batch.reader} ${batch.first} to ${reached - 1}: ${findings.length} findings\n`),
    },
  );
  await rm(root, { recursive: true, force: true });
  printResult(result);
  process.exitCode = result.findings.length > 0 ? 1 : 0;
} else await replay(options.case);

/** One case again. Its input stays where it was written, to be looked at and to become a test. */
async function replay(index: number): Promise<void> {
  const [reader] = Object.keys(chosen);
  if (reader === undefined || options.reader?.length !== 1) return program.error('--case needs one --reader');
  const batch = { reader, first: index, end: index + 1 };
  const { findings, outcome } = await runBatch(batch, { registry, seed, root, hangAfter, keep: true });
  console.log(`input: ${path.join(root, `${reader}-${index}`, String(index))}`);
  console.log(`outcome: ${outcome ?? 'none'}`);
  for (const { kind, text } of findings) console.log(`${kind}: ${text}`);
  process.exitCode = findings.length > 0 ? 1 : 0;
}

function printResult({ findings, tallies }: FuzzResult): void {
  let total = 0;
  console.log('reader                     cases    read  refused  cases/s');
  for (const [name, { cases, read, refused, seconds }] of [...tallies].sort()) {
    total += cases;
    const numbers = [cases, read, refused, (cases / seconds).toFixed(1)].map((value) => String(value).padStart(8));
    console.log(`${name.padEnd(24)}${numbers.join(' ')}`);
  }
  const kinds = new Map<string, Finding[]>();
  for (const finding of findings) {
    // Numbers, names and paths differ from case to case of one fault.
    const [first = ''] = finding.text.split('\n');
    const signature = `${finding.reader}: ${finding.kind}: ${first.replace(/\/\S+|'[^']*'|\d+/g, '#').slice(0, 120)}`;
    kinds.set(signature, [...(kinds.get(signature) ?? []), finding]);
  }
  for (const [signature, [first, ...others]] of kinds) {
    console.log(`\n${signature} (${others.length + 1} cases)\n${first?.text.split('\n').slice(0, 8).join('\n')}`);
    console.log(`again: npm run fuzz -- --seed ${seed} --reader ${first?.reader} --case ${first?.case}`);
  }
  console.log(`\n${total} cases, ${findings.length} findings of ${kinds.size} kinds (seed ${seed})`);
}
