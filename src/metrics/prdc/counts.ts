import { setImmediate } from 'node:timers/promises';

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
    await setImmediate();
    this.signal?.throwIfAborted();
    this.lastTurn = performance.now();
  }
}
