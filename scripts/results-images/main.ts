/**
 * `npm run results-images`: what the isotropy penalty does on images. Trains a U-Net with each weight and seed, draws from it,
 * measures what was drawn, and writes `docs/results-images.md` with its JSON and pictures, whatever they show. The same command
 * goes on after a stop.
 *
 *     npm run results-images -- [--output runs/results-images] [--report docs/results-images.md] [--device cpu] [--jobs N]
 *         [--set mnist-10k --set emoji] [--seeds 3] [--steps N] [--samples N] [--quick] [--only prepare|train|measure|report]
 *
 * `--only prepare` writes all that needs the network, images as bytes and feature extractors, into `<output>/prepared`. `--only
 * train` trains and draws, `--only measure` takes the features and metrics of what was drawn, and `--only report` writes the files.
 * The report keeps the models of its JSON that are not in `--output`. Where those of the same set were made in another way, the
 * command ends with an error before it trains.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ImageSet } from '../../src/datasets/index.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { JobClock } from '../../src/experiments/jobs/job.ts';
import { defaultParallelism } from '../../src/experiments/jobs/run-jobs.ts';
import { withFolderLock } from '../../src/files/folder-lock.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import { DEVICES } from '../../src/runtime/device.ts';
import { runCell } from './cell.ts';
import { copiesOf } from './copies.ts';
import { extractorOf, prepareExtractor } from './extractors.ts';
import { cellMeasures, cellSamples, measureCell } from './measure.ts';
import { preparedImages } from './prepared-images.ts';
import { type FoundSet, jsonOf, writeReport } from './report.ts';
import { type ModelResult, requireSameWay, type SetResults } from './results.ts';
import {
  type Cell,
  cellName,
  DEFAULT_SETS,
  FULL,
  QUICK,
  SEEDS,
  type StudySet,
  type StudySettings,
  setOf,
  studyCells,
} from './study.ts';
import { cellFolder, finishedCell, runCells } from './train.ts';

const PARTS = ['prepare', 'train', 'measure', 'report'];
/** A step of a small network leaves a GPU idle. */
const JOBS_ON_GPU = 6;

const { values } = parseArgs({
  options: {
    output: { type: 'string', default: path.join('runs', 'results-images') },
    report: { type: 'string', default: path.join('docs', 'results-images.md') },
    device: { type: 'string', default: 'cpu' },
    jobs: { type: 'string' },
    set: { type: 'string', multiple: true, default: DEFAULT_SETS },
    seeds: { type: 'string' },
    steps: { type: 'string' },
    samples: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    cell: { type: 'string' },
  },
});
const { output, only, quick } = values;
const prepared = path.join(output, 'prepared');

const device = DEVICES.find((name) => name === values.device);
if (!device) throw new InvalidArgumentError(`--device is '${values.device}': use ${DEVICES.join(', ')}`);
if (only !== undefined && !PARTS.includes(only))
  throw new InvalidArgumentError(`--only is '${only}': use ${PARTS.join(', ')}`);
const sets = values.set.map(setOf);
const cells = studyCells(values.set, wholeNumber('seeds', values.seeds) ?? SEEDS);

const loaded = new Map<string, Promise<ImageSet>>();

if (values.cell === undefined) await runStudy();
else await runOne(values.cell);

async function runStudy(): Promise<void> {
  await withFolderLock(output, 'choose another --output', async () => {
    const study = [];
    for (const set of sets) {
      const shared = await sharedOf(set);
      console.log(`${shared.name}: ${shared.images} images of ${shared.shape.join('x')}`);
      study.push(shared);
    }
    await requireSameWay(jsonOf(values.report), study);
    if (only !== 'train') for (const set of sets) await prepareExtractor(prepared, set);
    if (only === undefined || only === 'train') {
      const open: Cell[] = [];
      for (const cell of cells) if (!(await recordOf(cell))) open.push(cell);
      await inProcesses('train', open);
    }
    if (only === undefined || only === 'measure') {
      const open: Cell[] = [];
      for (const cell of cells)
        if ((await recordOf(cell)) && !(await cellMeasures(cellFolder(output, cell)))) open.push(cell);
      await inProcesses('measure', open);
    }
    if (only === undefined || only === 'report') await report();
  });
}

async function report(): Promise<void> {
  const found = (await Promise.all(sets.map(foundOf))).flatMap((set) => set ?? []);
  if (found.length === 0) throw new InvalidArgumentError(`${output} has no finished model: train first`);
  const files = await writeReport(values.report, found);
  console.log(`written: ${files.join(', ')}`);
}

/** What the finished cells of a set hold; undefined where there are none. */
async function foundOf(set: StudySet): Promise<FoundSet | undefined> {
  const images = await imagesOf(set.name);
  const models: ModelResult[] = [];
  const drawn: { lambda: number; samples: ImageSet }[] = [];
  let extractor: SetResults['extractor'] = null;
  let parameters = 0;
  for (const cell of cells.filter((one) => one.set === set.name)) {
    const { lambda, seed } = cell;
    const folder = cellFolder(output, cell);
    const record = await recordOf(cell);
    if (!record) continue;
    const measures = await cellMeasures(folder);
    const samples = await cellSamples(folder, record);
    if (seed === 0) drawn.push({ lambda, samples });
    extractor ??= measures?.extractor ?? null;
    parameters = record.parameters;
    models.push({
      lambda,
      seed,
      samples: samples.count,
      isotropy: record.isotropy,
      metrics: measures?.metrics ?? null,
      copies: seed === 0 ? await copiesOf(folder, samples, images) : null,
      curve: record.curve,
      environment: record.environment,
      cpu_seconds: (await JobClock.start(folder)).elapsed().cpu_seconds,
    });
  }
  if (models.length === 0) return undefined;
  return { images, drawn, results: { ...(await sharedOf(set)), extractor, parameters, models } };
}

/** What all models of a set share before any is trained. */
async function sharedOf(set: StudySet) {
  const { count, height, width, channels, fingerprint } = await imagesOf(set.name);
  const shape = [height, width, channels];
  return { name: set.name, images: count, shape, fingerprint, settings: settingsOf(set) };
}

function inProcesses(part: 'train' | 'measure', open: readonly Cell[]): Promise<void> {
  const jobs = wholeNumber('jobs', values.jobs) ?? (device === 'cpu' ? defaultParallelism('cpu') : JOBS_ON_GPU);
  console.log(`${part}: ${open.length} of ${cells.length} cells to do, ${Math.min(jobs, open.length)} at a time`);
  return runCells(open, part, jobs, fileURLToPath(import.meta.url));
}

/** A process of one cell. It ends with the one that started it. */
async function runOne(name: string): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  // It may have ended before this one listened.
  if (!process.connected) process.exit(1);
  const cell = cells.find((one) => cellName(one) === name);
  if (!cell || !device) throw new InvalidArgumentError(`--cell is '${name}', which is not a cell of these arguments`);
  // One thread of the cpu, so that a result depends neither on the cores nor on how many cells run beside it.
  configureRuntime({ threads: 1, ...(device === 'cuda' ? { tf32: only === 'train' } : {}) });
  const set = setOf(cell.set);
  const images = await imagesOf(cell.set);
  const folder = cellFolder(output, cell);
  let finished = true;
  if (only === 'measure') {
    const record = await recordOf(cell);
    if (!record) throw new InvalidArgumentError(`${folder} is not finished: train it first`);
    const extractor = await extractorOf(prepared, set, device);
    await measureCell(folder, record, images, extractor, path.join(output, 'features'));
  } else finished = await runCell(cell, folder, images, settingsOf(set), device);
  // The threads of a driver may outlive their work.
  process.exit(finished ? 0 : 130);
}

async function recordOf(cell: Cell) {
  return finishedCell(output, cell, settingsOf(setOf(cell.set)), await imagesOf(cell.set));
}

function settingsOf(set: StudySet): StudySettings {
  const settings = quick ? QUICK : { ...FULL, ...set.settings };
  return {
    ...settings,
    steps: wholeNumber('steps', values.steps) ?? settings.steps,
    samples: wholeNumber('samples', values.samples) ?? settings.samples,
  };
}

function imagesOf(name: string): Promise<ImageSet> {
  const images = loaded.get(name) ?? preparedImages(prepared, setOf(name));
  loaded.set(name, images);
  return images;
}

/** @throws {InvalidArgumentError} for anything but a whole number of at least 1. */
function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError(`--${flag} is '${text}', but must be a whole number of at least 1`);
}
