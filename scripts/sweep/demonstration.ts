// Kills a sweep twice, resumes it, and holds its report against that of an unbroken one. Writes a part of docs/sweeps.md.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { documentPath, writeSection } from '../samplers/document.ts';
import { openPage } from './browser.ts';

const ARGUMENTS = 'sweep --dataset swiss-roll --lambda 0.05 0.1 --seeds 3 --n 3000 --budget 10m --jobs 2';
const FILES = ['sweep.html', 'sweep.md', 'sweep.json', 'sweep.csv'];
/** Finished runs, of 15, at which the sweep is killed. */
const KILLED_AT = [1, 6];
const PICTURE = 'images/sweep-swiss-roll.png';

const script = fileURLToPath(new URL('../../bin/iso-diffusion.js', import.meta.url));
const root = path.join(tmpdir(), 'iso-sweep-demonstration');

/** Runs the sweep, or kills it a while after so many runs are finished. @returns the seconds it took. */
async function run(folder: string, resume: boolean, killedAt = Number.POSITIVE_INFINITY): Promise<number> {
  const args = [script, ...ARGUMENTS.split(' '), '--output', folder, ...(resume ? ['--resume'] : [])];
  const started = performance.now();
  const child = spawn(process.execPath, args, { stdio: 'inherit' });
  const timer = setInterval(() => {
    if (finishedRuns(folder) < killedAt) return;
    clearInterval(timer);
    // In the middle of the next runs.
    setTimeout(() => child.kill('SIGKILL'), 7000);
  }, 200);
  const [code, signal] = await once(child, 'exit');
  clearInterval(timer);
  const seconds = (performance.now() - started) / 1000;
  if (killedAt === Number.POSITIVE_INFINITY ? code !== 0 : signal !== 'SIGKILL')
    throw new Error(`the sweep ended with ${code ?? signal}`);
  console.log(`${path.basename(folder)}: ${signal ? 'killed' : 'done'} after ${seconds.toFixed(0)} s`);
  return seconds;
}

function finishedRuns(folder: string): number {
  const jobs = path.join(folder, 'jobs');
  if (!existsSync(jobs)) return 0;
  return readdirSync(jobs).filter((name) => existsSync(path.join(jobs, name, 'result.json'))).length;
}

const [killed, whole] = [path.join(root, 'killed'), path.join(root, 'whole')];
await rm(root, { recursive: true, force: true });
let seconds = 0;
for (const [attempt, at] of KILLED_AT.entries()) seconds += await run(killed, attempt > 0, at);
seconds += await run(killed, true);

// The unbroken one follows the same plan: another trial would plan other epochs.
await mkdir(whole, { recursive: true });
await copyFile(path.join(killed, 'plan.json'), path.join(whole, 'plan.json'));
await run(whole, true);
for (const file of FILES) {
  const [one, other] = [killed, whole].map((folder) => readFileSync(path.join(folder, file)));
  if (!one?.equals(other as Buffer)) throw new Error(`${file} differs between the killed sweep and the unbroken one`);
}

const page = path.join(killed, 'sweep.html');
const picture = path.join(root, 'sweep.png');
const { requests, errors, broken } = await openPage(page, { picture });
if (requests.some((address) => address !== pathToFileURL(page).href))
  throw new Error(`the page asked for ${requests.join(', ')}`);
if (errors.length > 0 || broken > 0) throw new Error(`the page has ${broken} broken images, and ${errors.join(', ')}`);
await sharp(picture).png({ palette: true, colours: 128 }).toFile(documentPath(PICTURE));

const { advice, settings } = JSON.parse(readFileSync(path.join(killed, 'sweep.json'), 'utf8'));
const tables = readFileSync(path.join(killed, 'sweep.md'), 'utf8').split('\n\n').slice(3);
await writeSection(
  'sweeps.md',
  'swiss roll',
  `\`iso-diffusion ${ARGUMENTS}\` planned ${settings.epochs} epochs.
It was killed twice (SIGKILL), after ${KILLED_AT.join(' and ')} of its 15 runs, and resumed: ${(seconds / 60).toFixed(1)} minutes in all on ${availableParallelism()} cores. An unbroken sweep of
the same plan wrote the same bytes. Its first line:

> ${advice}

${tables.join('\n\n').trim()}

![The page of this sweep](${PICTURE})`,
);
console.log(advice);
