/*
 * A child process that gives the cases [first, end) of one reader to it, one after another. What happens goes to file
 * descriptor 3, a line each: the number of the case that begins, findings as JSON, at last how many cases were read and
 * how many refused. A line is written before the case begins, so that the parent knows which case a crash belongs to.
 */
import { writeSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { IsoDiffusionError } from '../../src/errors.ts';
import { mutatedCase } from './mutations/mutate.ts';
import type { Files, Readers } from './reader.ts';

/** What one case may add to the peak of the memory. The largest limits of the readers are below. */
const MAX_GROWTH_BYTES = 1024 ** 3;

const [registry = '', name = '', seedText, firstText, endText, root = ''] = process.argv.slice(2);
const [seed, first, end] = [Number(seedText), Number(firstText), Number(endText)];
const keep = process.env.FUZZ_KEEP === '1';

let current = first;
const report = (line: unknown) => writeSync(3, `${JSON.stringify(line)}\n`);
const find = (kind: string, error: unknown) =>
  report({ case: current, kind, text: error instanceof Error ? (error.stack ?? error.message) : String(error) });

process.on('unhandledRejection', (error) => find('unhandled rejection', error));
process.on('uncaughtException', (error) => find('uncaught exception', error));

const { readers } = (await import(pathToFileURL(registry).href)) as { readers: Readers };
const reader = await (readers[name] as Readers[string]).load();
const examples = await reader.examples();
const outcomes = { read: 0, refused: 0 };

// A reader that refuses its examples would refuse every case for a reason that has nothing to do with the change.
if (first === 0) for (const example of examples) await readExample(example);

for (current = first; current < end; current++) {
  report(current);
  const folder = path.join(root, String(current));
  await writeFiles(folder, mutatedCase(reader, examples, { seed, name, index: current }));
  const peak = process.resourceUsage().maxRSS;
  try {
    await reader.read(folder);
    outcomes.read++;
    if (keep) report({ outcome: 'read' });
  } catch (error) {
    if (error instanceof IsoDiffusionError) outcomes.refused++;
    else find('foreign error', error);
    if (keep) report({ outcome: String(error) });
  }
  // Promises that nobody awaits, and events of streams, show in the next turns of the event loop.
  await setImmediate();
  await setImmediate();
  const growth = (process.resourceUsage().maxRSS - peak) * 1024;
  if (growth > MAX_GROWTH_BYTES) find('memory', `the peak of the memory grew by ${Math.round(growth / 1e6)} MB`);
  if (!keep) await rm(folder, { recursive: true, force: true });
}
report(outcomes);
process.exit(0);

async function readExample(files: Files): Promise<void> {
  const folder = path.join(root, 'example');
  await writeFiles(folder, files);
  await reader.read(folder).catch((error) => find(`example ${[...files.keys()].join(', ')} refused`, error));
  await rm(folder, { recursive: true, force: true });
}

async function writeFiles(folder: string, files: Files): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [file, bytes] of files) {
    const target = path.join(folder, file);
    if (file.includes('/')) await mkdir(path.dirname(target), { recursive: true });
    await writeFile(target, bytes);
  }
}
