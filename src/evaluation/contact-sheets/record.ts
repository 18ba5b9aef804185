import { mkdir } from '#platform/fs';
import * as path from '#platform/path';
import { errorText, InvalidArgumentError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { exists, isFolder } from '../../files/regular-file.ts';
import type { MetricSide, SampleCounts } from '../../metrics/metric.ts';
import { neighbourhoods } from '../../metrics/prdc/prdc.ts';
import type { ChosenMetric } from '../chosen-metrics.ts';
import type { EvaluateOptions, EvaluationReport, ReportedContactSheets } from '../options.ts';
import {
  MEMORISED_SHARE,
  NEIGHBOURS,
  type Neighbour,
  type RealFacts,
  type SampleFacts,
  Selection,
} from './selection.ts';

/** Images of a kind that are shown on a sheet, and samples beside their neighbours. */
export const SHOWN = { grid: 24, rows: 8 };

/**
 * Refuses contact sheets that cannot be made, before the work, and makes their folder.
 *
 * @throws {InvalidArgumentError} without the metric prdc, for a path that is no folder, and for too few real samples.
 */
export async function prepareContactSheets(
  folder: string,
  chosen: readonly ChosenMetric[],
  counts: SampleCounts,
): Promise<void> {
  const k = nearestK(chosen);
  if (k === undefined)
    throw new InvalidArgumentError(
      "contact_sheets show what the metric 'prdc' counts: add it to metrics; files of statistics do not have it",
    );
  if (counts.real !== undefined && counts.real < k + 2)
    throw new InvalidArgumentError(
      `real has ${counts.real} samples, but contact_sheets with nearest_k ${k} need at least ${k + 2}: give more samples, or a smaller nearest_k`,
    );
  if ((await exists(folder)) && !(await isFolder(folder)))
    throw new InvalidArgumentError(`contact_sheets is '${folder}', which is a file: name a folder`);
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
    throw new InvalidArgumentError(`the folder of contact_sheets, '${folder}', cannot be made: ${errorText(cause)}`, {
      cause,
    });
  });
}

/** The `nearest_k` of prdc; undefined where it is not evaluated. */
function nearestK(chosen: readonly ChosenMetric[]): number | undefined {
  const k = chosen.find(({ name }) => name === 'prdc')?.options.nearest_k;
  return typeof k === 'number' ? k : undefined;
}

/** What contact sheets show of these samples. */
export async function findSelection(
  chosen: readonly ChosenMetric[],
  real: MetricSide,
  fake: MetricSide,
  { on_progress, signal }: Pick<EvaluateOptions, 'on_progress' | 'signal'>,
): Promise<{ selection: Selection; nearestK: number }> {
  const nearest_k = nearestK(chosen) ?? 5;
  const onProgress = (fraction: number) => on_progress?.(fraction, 'contact-sheets');
  const options = { nearest_k, on_progress: onProgress, signal };
  const found = await neighbourhoods(real.features, fake.features, NEIGHBOURS, options);
  return { selection: new Selection(found), nearestK: nearest_k };
}

/** How a sample is named in the record: its index in the whole set, its file, or its coordinates. */
export type Naming = (number: number) => { readonly index: number; readonly [fact: string]: unknown };

type Compared = Pick<EvaluationReport, 'real' | 'fake' | 'extractor' | 'settings' | 'warnings'>;

/** Writes `contact-sheets.json` beside the pictures. @returns what the report says. */
export async function writeRecord(
  folder: string,
  selection: Selection,
  { real, fake, extractor, settings, warnings }: Compared,
  names: { readonly real: Naming; readonly fake: Naming },
  pictures: readonly string[],
): Promise<ReportedContactSheets> {
  const neighbour = ({ number, distance }: Neighbour, name: Naming) => ({ ...name(number), distance });
  const realSample = ({ number, radii, nearestFake }: RealFacts) => ({
    ...names.real(number),
    radii,
    nearest_fake: neighbour(nearestFake, names.fake),
  });
  const sample = ({ number, balls, radii, share, looks, nearest }: SampleFacts) => ({
    ...names.fake(number),
    balls,
    radii,
    share_as_close: share,
    looks,
    nearest_real: nearest.map((one) => neighbour(one, names.real)),
  });
  const samples = (numbers: readonly number[]) => numbers.map((number) => sample(selection.sample(number)));
  const indices = (numbers: readonly number[], name: Naming) => numbers.map((number) => name(number).index);
  const { uncovered, outside, best, closest, copied, memorised } = selection;
  const record = {
    definitions: {
      radius: 'the distance of a real sample to its nearest_k-th nearest real one, in the features of the extractor',
      radii:
        "of a real sample: the distance to its nearest generated one, divided by its radius; of a generated one: the distance to its nearest real one, divided by that one's radius; null where the radius is 0",
      balls: 'how many real samples have the generated one within their radius',
      uncovered: 'real samples without a generated one within their radius, the furthest in radii first',
      outside: 'generated samples within no radius of a real one, the furthest from their nearest real one first',
      best: 'generated samples with the most balls, of these the closest in radii first',
      closest: 'generated samples in the order of their radii',
      share_as_close:
        'how likely a new sample of the same kind is at least as close: (1 + real samples that would be, were they left out) / (1 + real samples)',
      looks: `copied: at distance 0; memorised: share_as_close is at most ${MEMORISED_SHARE}; new: otherwise`,
    },
    real: { name: real.name, count: real.count },
    fake: { name: fake.name, count: fake.count },
    extractor,
    settings,
    ...(warnings ? { warnings } : {}),
    uncovered: {
      count: uncovered.length,
      shown: uncovered.slice(0, SHOWN.grid).map((number) => realSample(selection.real(number))),
      indices: indices(uncovered, names.real),
    },
    outside: {
      count: outside.length,
      shown: samples(outside.slice(0, SHOWN.grid)).map((one) => ({
        ...one,
        nearest_real: one.nearest_real.slice(0, 1),
      })),
      indices: indices(outside, names.fake),
    },
    best: samples(best.slice(0, SHOWN.rows)),
    closest: samples(closest.slice(0, SHOWN.rows)),
    copied: { count: copied.length, indices: indices(copied, names.fake) },
    memorised: {
      count: memorised.length,
      expected_of_new: MEMORISED_SHARE * (fake.count ?? 0),
      indices: indices(memorised, names.fake),
    },
  };
  const file = path.join(folder, 'contact-sheets.json');
  await writeFileAtomic(file, `${JSON.stringify(record, undefined, 2)}\n`);
  return {
    files: [...pictures, file],
    uncovered: uncovered.length,
    outside: outside.length,
    copied: copied.length,
    memorised: memorised.length,
  };
}

/** 1st, 2nd, 3rd, 4th and so on. */
export function ordinal(k: number): string {
  const ending = k % 100 > 10 && k % 100 < 14 ? 'th' : (['th', 'st', 'nd', 'rd'][k % 10] ?? 'th');
  return `${k}${ending}`;
}
