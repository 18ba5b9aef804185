import { type Closeness, closeness, shareAsClose } from '../../metrics/prdc/closeness.ts';
import type { Neighbourhoods } from '../../metrics/prdc/counts.ts';

/** Neighbours beside a generated sample. */
export const NEIGHBOURS = 5;

/** A new sample is as close to a real one as a memorised-looking sample in at most this share of cases. */
export const MEMORISED_SHARE = 0.01;

/** A sample that is near to another. */
export interface Neighbour {
  /** Its number among the samples that were compared. */
  readonly number: number;
  /** Euclidean, in the units of the features. */
  readonly distance: number;
}

/** What is known of a real sample. */
export interface RealFacts {
  readonly number: number;
  readonly nearestFake: Neighbour;
  /** The distance to it in radii: divided by that to the k-th nearest other real sample. */
  readonly radii: number;
}

/** What is known of a generated sample. */
export interface SampleFacts {
  readonly number: number;
  /** How many real samples have it within their radius. */
  readonly balls: number;
  /** The distance to the nearest real sample, in radii of that. */
  readonly radii: number;
  /** How likely a new sample of the same kind is at least as close to its nearest real one. */
  readonly share: number;
  readonly looks: 'copied' | 'memorised' | 'new';
  readonly nearest: readonly Neighbour[];
}

/** What contact sheets show, chosen from all samples. Lists hold numbers of samples. */
export class Selection {
  /** Reals without a generated sample in their radius, those whose nearest one is furthest in radii first. */
  readonly uncovered: readonly number[];
  /** Generated samples outside every radius, the furthest from their nearest real first. */
  readonly outside: readonly number[];
  /** All generated samples: those in most balls first, of these the closest to a real one. */
  readonly best: readonly number[];
  /** All generated samples, the closest to a real one first. */
  readonly closest: readonly number[];
  /** Generated samples that equal a real one. */
  readonly copied: readonly number[];
  /** Others that are closer to a real one than new samples are, the closest first. */
  readonly memorised: readonly number[];
  private readonly close: Closeness;

  constructor(private readonly found: Neighbourhoods) {
    this.close = closeness(found);
    const { realsOfReals, fakesOfReals, ballsAround } = found;
    const { ofFakes, ofReals } = this.close;
    const radius = realsOfReals.k - 2;
    const reals = Array.from({ length: realsOfReals.count }, (_, i) => i);
    const fakes = Array.from(ballsAround.keys());
    const balls = (j: number) => ballsAround[j] ?? 0;
    this.uncovered = reals
      .filter((i) => fakesOfReals.square(i, 0) >= realsOfReals.square(i, radius))
      .sort(descending((i) => ofReals[i] ?? 0));
    this.outside = fakes.filter((j) => balls(j) === 0).sort(descending((j) => ofFakes[j] ?? 0));
    this.closest = [...fakes].sort(descending((j) => -(ofFakes[j] ?? 0)));
    // Sorting is stable: samples in as many balls stay in order of closeness.
    this.best = [...this.closest].sort((a, b) => balls(b) - balls(a));
    this.copied = this.closest.filter((j) => this.looks(j) === 'copied');
    this.memorised = this.closest.filter((j) => this.looks(j) === 'memorised');
  }

  real(number: number): RealFacts {
    const { fakesOfReals } = this.found;
    const distance = Math.sqrt(fakesOfReals.square(number, 0));
    const nearestFake = { number: fakesOfReals.id(number, 0), distance };
    return { number, nearestFake, radii: this.close.ofReals[number] ?? 0 };
  }

  sample(number: number): SampleFacts {
    const { realsOfFakes, realsOfReals, ballsAround } = this.found;
    const radii = this.close.ofFakes[number] ?? 0;
    const ranks = Array.from({ length: Math.min(realsOfFakes.k, realsOfReals.count) }, (_, rank) => rank);
    return {
      number,
      balls: ballsAround[number] ?? 0,
      radii,
      share: shareAsClose(this.close, radii),
      looks: this.looks(number),
      nearest: ranks.map((rank) => ({
        number: realsOfFakes.id(number, rank),
        distance: Math.sqrt(realsOfFakes.square(number, rank)),
      })),
    };
  }

  private looks(j: number): SampleFacts['looks'] {
    if (this.found.realsOfFakes.square(j, 0) === 0) return 'copied';
    return shareAsClose(this.close, this.close.ofFakes[j] ?? 0) <= MEMORISED_SHARE ? 'memorised' : 'new';
  }
}

/** Largest values first; Infinity is a value like others. Of equal ones the smaller number. */
function descending(value: (number: number) => number): (a: number, b: number) => number {
  return (a, b) => (value(a) === value(b) ? a - b : value(a) > value(b) ? -1 : 1);
}
