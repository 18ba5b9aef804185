import * as path from '#platform/path';
import { writeFileAtomic } from '../../files/atomic.ts';
import { type ContactSheet, drawContactSheet, type SheetCell } from '../../plots/contact-sheet.ts';
import { type EvaluationImages, type PickedImages, withChannels } from '../image-sources.ts';
import type { EvaluationReport, ReportedContactSheets } from '../options.ts';
import { type Naming, ordinal, SHOWN, writeRecord } from './record.ts';
import { MEMORISED_SHARE, NEIGHBOURS, type SampleFacts, type Selection } from './selection.ts';

const COLUMNS = 8;
const COLORS = { copied: '#B34700', memorised: '#B34700', new: '#0072B2' };
const VERDICTS = { copied: 'a copy', memorised: 'memorised?', new: 'looks new' };

/** What is compared, and what was found. */
interface SheetsOf {
  readonly folder: string;
  readonly selection: Selection;
  readonly report: EvaluationReport;
  readonly nearestK: number;
  readonly real: EvaluationImages;
  readonly fake: EvaluationImages;
  readonly channels: 1 | 3;
  readonly signal?: AbortSignal | undefined;
}

/** Writes the contact sheets of images and their record. Only images that are shown are decoded. */
export async function writeImageSheets(given: SheetsOf): Promise<ReportedContactSheets> {
  const { folder, selection, report, nearestK, real, fake, channels, signal } = given;
  const uncovered = selection.uncovered.slice(0, SHOWN.grid);
  const outside = selection.outside.slice(0, SHOWN.grid);
  const best = selection.best.slice(0, SHOWN.rows).map((number) => selection.sample(number));
  const closest = selection.closest.slice(0, SHOWN.rows).map((number) => selection.sample(number));
  const shown = [...best, ...closest];
  // Those that the record names, too.
  const reals = [
    ...uncovered,
    ...shown.flatMap(({ nearest }) => nearest.map(({ number }) => number)),
    ...outside.flatMap((number) =>
      selection
        .sample(number)
        .nearest.slice(0, 1)
        .map((one) => one.number),
    ),
  ];
  const fakes = [
    ...outside,
    ...shown.map(({ number }) => number),
    ...uncovered.map((number) => selection.real(number).nearestFake.number),
  ];
  const pictured = {
    real: new Pictured(real, await picked(real, reals, signal), channels, 'image'),
    fake: new Pictured(fake, await picked(fake, fakes, signal), channels, 'sample'),
  };
  const radius = `A radius is a real image's distance to its ${ordinal(nearestK)} nearest real one, by the features of ${report.extractor.name}.`;
  const warnings = (report.warnings ?? []).map((warning) => `Careful: ${warning}.`);
  const part = (count: number, of: number) => `${count} of ${of} (${((100 * count) / of).toFixed(1)}%)`;
  const ofShown = (count: number) => {
    if (count === 0) return 'There are none.';
    return count > SHOWN.grid ? `The ${SHOWN.grid} furthest are shown.` : 'The furthest come first.';
  };
  const verdicts = [
    'Below a sample: how many real images have it within their radius, its distance to the nearest one in radii of that, ' +
      'and how likely a new image is at least as close. That is the share of real images that are, each left out in turn.',
    `Up to ${100 * MEMORISED_SHARE}% looks memorised. Of all ${fake.count} generated images, ${selection.copied.length} are copies and ` +
      `${selection.memorised.length} look memorised. Of new images, about ${Math.round(MEMORISED_SHARE * fake.count)} would.`,
  ];
  const rowsOf = (samples: readonly SampleFacts[]) => samples.map((facts) => row(facts, pictured));
  const headings = ['generated', `the ${NEIGHBOURS} nearest real images`] as const;
  const sheets: Record<string, ContactSheet> = {
    uncovered: {
      title: `Uncovered real images: ${part(selection.uncovered.length, real.count)}`,
      notes: [
        `No generated image lies within the radius of these. ${ofShown(selection.uncovered.length)}`,
        `Below each: its distance to the nearest generated image, in its own radii. ${radius}`,
        ...warnings,
      ],
      rows: inRows(uncovered.map((number) => pictured.real.cell(number, [inRadii(selection.real(number).radii)]))),
    },
    outside: {
      title: `Generated images outside the real manifold: ${part(selection.outside.length, fake.count)}`,
      notes: [
        `These lie within no radius of a real image. ${ofShown(selection.outside.length)}`,
        `Below each: its distance to the nearest real image, in radii of that one. ${radius}`,
        ...warnings,
      ],
      rows: inRows(outside.map((number) => pictured.fake.cell(number, [inRadii(selection.sample(number).radii)]))),
    },
    best: {
      title: 'The best generated images beside the nearest real ones',
      notes: [`Best: within the radius of the most real images. ${radius}`, ...verdicts, ...warnings],
      rows: rowsOf(best),
      headings,
    },
    closest: {
      title: 'The generated images that come closest to real ones',
      notes: [`Closest: the smallest distance in radii of the nearest real image. ${radius}`, ...verdicts, ...warnings],
      rows: rowsOf(closest),
      headings,
    },
  };
  const pictures: string[] = [];
  for (const [name, sheet] of Object.entries(sheets)) {
    signal?.throwIfAborted();
    const file = path.join(folder, `${name}.png`);
    await writeFileAtomic(file, await drawContactSheet(sheet));
    pictures.push(file);
  }
  const names = { real: pictured.real.naming, fake: pictured.fake.naming };
  return writeRecord(folder, selection, report, names, pictures);
}

async function picked(
  images: EvaluationImages,
  numbers: readonly number[],
  signal: AbortSignal | undefined,
): Promise<PickedImages> {
  return (await images.pick?.(new Set(numbers), signal)) ?? new Map();
}

/** The images of one side that are shown. */
class Pictured {
  readonly naming: Naming;

  constructor(
    private readonly images: EvaluationImages,
    private readonly shown: PickedImages,
    private readonly channels: 1 | 3,
    private readonly kind: 'image' | 'sample',
  ) {
    this.naming = (number) => {
      const source = shown.get(number)?.source;
      return { index: this.index(number), ...(source === undefined ? {} : { source }) };
    };
  }

  cell(number: number, lines: readonly string[], color?: string): SheetCell {
    const found = this.shown.get(number);
    const { height, width } = this.images;
    const { channels } = this;
    // Never blank: `pick` gives what was asked for.
    const blank = { data: new Uint8Array(height * width * channels), height, width, channels };
    const { data } = found ? withChannels(found.image, channels) : blank;
    const name = found?.source ?? `${this.kind} ${this.index(number)}`;
    return { image: { data, height, width, channels }, name, lines, color };
  }

  private index(number: number): number {
    return this.images.indices?.[number] ?? number;
  }
}

function row(
  { number, balls, radii, share, looks, nearest }: SampleFacts,
  { real, fake }: { readonly real: Pictured; readonly fake: Pictured },
): SheetCell[] {
  const lines = [`in the radius of ${balls}`, inRadii(radii), `${VERDICTS[looks]} (${percent(share)})`];
  return [
    fake.cell(number, lines, COLORS[looks]),
    ...nearest.map((one) => real.cell(one.number, [`distance ${Number(one.distance.toPrecision(3))}`])),
  ];
}

function inRows(cells: readonly SheetCell[]): SheetCell[][] {
  return Array.from({ length: Math.ceil(cells.length / COLUMNS) }, (_, i) =>
    cells.slice(i * COLUMNS, (i + 1) * COLUMNS),
  );
}

function inRadii(radii: number): string {
  return `${Number.isFinite(radii) ? Number(radii.toPrecision(3)) : '∞'} radii`;
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))}%`;
}
