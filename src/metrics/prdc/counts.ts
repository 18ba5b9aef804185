import { nextTurn } from '#platform/system';

import type { Ranked } from '../linalg/select.ts';
import type { PointCloud } from '../metric.ts';

/** What PRDC counts; a ball is open and reaches to its centre's k-th nearest neighbour in the same set. */
export interface NeighbourhoodCounts {
  /** Fakes inside the ball of at least one real. */
  fakesInReal: number;
  /** Pairs (real, fake) with the fake inside the real's ball. */
  pairsInReal: number;
  /** Reals inside the ball of at least one fake. */
  realsInFake: number;
  /** Reals with at least one fake inside their own ball. */
  realsCovered: number;
}

/** Where every sample lies. A ball is open and reaches to its centre's k-th nearest neighbour in the same set. */
export interface Neighbourhoods {
  /** Of each real, the k + 1 nearest other reals. */
  readonly realsOfReals: NeighbourTable;
  /** Of each fake, the nearest reals. */
  readonly realsOfFakes: NeighbourTable;
  /** Of each real, the nearest fake. */
  readonly fakesOfReals: NeighbourTable;
  /** In how many balls of reals each fake lies. */
  readonly ballsAround: Uint32Array;
}

/** The nearest neighbours of every sample of a set, nearest first. */
export class NeighbourTable {
  private readonly ids: Uint32Array;
  private readonly squares: Float64Array;

  /** @param k neighbours of a sample. */
  constructor(
    readonly count: number,
    readonly k: number,
  ) {
    this.ids = new Uint32Array(count * k);
    this.squares = new Float64Array(count * k).fill(Number.POSITIVE_INFINITY);
  }

  /** The row of the neighbour at `rank` (from 0) of sample `i`. */
  id(i: number, rank: number): number {
    return this.ids[i * this.k + rank] as number;
  }

  /** Its squared distance; Infinity where there are not so many. */
  square(i: number, rank: number): number {
    return this.squares[i * this.k + rank] as number;
  }

  /** @param nearest at most k, with their squared distances times `scale`. */
  set(i: number, nearest: readonly Ranked[], scale = 1): void {
    nearest.forEach(({ id, value }, rank) => {
      this.ids[i * this.k + rank] = id;
      this.squares[i * this.k + rank] = value / scale;
    });
  }
}

/**
 * The neighbours without the sample itself. Where it is not among them, more copies of it are than fit: then the last is
 * left out.
 */
export function others(i: number, nearest: readonly Ranked[]): Ranked[] {
  const itself = nearest.findIndex(({ id }) => id === i);
  return nearest.filter((_, rank) => rank !== (itself < 0 ? nearest.length - 1 : itself));
}

/** All but density are fractions of points, from 0 to 1; density is at least 0 and can exceed 1. */
export interface Prdc {
  /** Fakes that are nearer to some real than that real's k-th nearest real. */
  precision: number;
  /** Reals that are nearer to some fake than that fake's k-th nearest fake. */
  recall: number;
  /** The mean over fakes of the number of reals as in `precision`, divided by k. */
  density: number;
  /** Reals whose nearest fake is nearer than their k-th nearest real. */
  coverage: number;
}

/** The metrics that the counts of both paths stand for. */
export function fromCounts(counts: NeighbourhoodCounts, real: PointCloud, fake: PointCloud, nearestK: number): Prdc {
  return {
    precision: counts.fakesInReal / fake.count,
    recall: counts.realsInFake / real.count,
    density: (1 / nearestK) * (counts.pairsInReal / fake.count),
    coverage: counts.realsCovered / real.count,
  };
}

const TURN_MS = 50;

/** Lets a long computation report progress, be aborted, and leave the event loop a turn every 50 ms. */
export class Pacer {
  private done = 0;
  private lastTurn = performance.now();

  /** @param total the units of work of the whole computation. */
  constructor(
    private readonly total: number,
    private readonly onProgress?: (fraction: number) => void,
    private readonly signal?: AbortSignal,
  ) {
    signal?.throwIfAborted();
  }

  /** Counts `units` as done. @throws the signal's reason once it is aborted. */
  async advance(units: number): Promise<void> {
    this.done += units;
    const now = performance.now();
    const finished = this.done >= this.total;
    if (!finished && now - this.lastTurn < TURN_MS) return;
    this.onProgress?.(Math.min(1, this.done / this.total));
    await nextTurn();
    this.signal?.throwIfAborted();
    this.lastTurn = performance.now();
  }
}
