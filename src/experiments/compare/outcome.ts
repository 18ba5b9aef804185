import type { CompareSettings } from './options.ts';
import type { StoredMetrics } from './run.ts';
import type { ComparedSide, Side } from './sides.ts';

/** What the report of a comparison is written from. */
export interface CompareOutcome {
  readonly settings: CompareSettings;
  readonly sides: readonly Side[];
  /** The same sides with their values. */
  readonly compared: readonly ComparedSide[];
  /** By the folder of the run. */
  readonly measured: ReadonlyMap<string, StoredMetrics>;
  /** Of the first run of each side that has one, a PNG file. */
  readonly pictures: ReadonlyMap<Side, Uint8Array>;
}

/** What the values must not be taken for. */
export function warningsOf({ measured }: CompareOutcome): string[] {
  const all = [...measured.values()];
  const ways = [...new Set(all.map(({ how }) => how))];
  const mixed =
    ways.length > 1
      ? [
          `the runs were measured in different ways (${ways.join('; ')}), so their values cannot be compared: measure them with a data set`,
        ]
      : [];
  return [...new Set([...mixed, ...all.flatMap(({ warnings }) => warnings)])];
}

/** How the runs were measured, in a sentence; undefined where nothing was. */
export function howText({ measured, settings, sides }: CompareOutcome): string | undefined {
  const [first] = measured.values();
  if (!first) return undefined;
  const own = settings.dataset === undefined ? 'The runs measured themselves' : 'Measured';
  const steps = settings.dataset === undefined ? '' : `, ${settings.num_inference_steps} steps`;
  const paired = sides.some(({ runs }) => runs.length > 1)
    ? " Changes are over pairs of the same seed, with the 95 % interval of Student's t. Of 20 changes that are none, one looks clear by chance."
    : '';
  return `${own}: ${first.how}${steps}.${paired}`;
}

/** A sentence on settings that cannot be compared. */
export function untoldText(untold: readonly string[]): string {
  return `Not all folders say: ${untold.join(', ')}.`;
}
