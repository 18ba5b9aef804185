import type { Neighbourhoods } from './counts.ts';

/**
 * Distances in radii: divided by the distance of a real to its k-th nearest neighbour among the reals. With k = 1 a fake below
 * 1 is what Alaa et al. (2022) call not authentic.
 */
export interface Closeness {
  /** Of each fake: its distance to the nearest real, in radii of that real. 0 for a copy. */
  readonly ofFakes: Float64Array;
  /** Of each real: its distance to the nearest fake, in radii of its own. Below 1 it is covered. */
  readonly ofReals: Float64Array;
  /** What each real would have as a fake, were it not among the reals; ascending. New samples of the same kind have as much. */
  readonly ofNew: Float64Array;
}

/** How close the samples come. There must be more than k + 1 reals. */
export function closeness({ realsOfReals, realsOfFakes, fakesOfReals }: Neighbourhoods): Closeness {
  const last = realsOfReals.k - 2;
  return {
    ofFakes: Float64Array.from({ length: realsOfFakes.count }, (_, j) =>
      inRadii(realsOfFakes.square(j, 0), realsOfReals.square(realsOfFakes.id(j, 0), last)),
    ),
    ofReals: Float64Array.from({ length: fakesOfReals.count }, (_, i) =>
      inRadii(fakesOfReals.square(i, 0), realsOfReals.square(i, last)),
    ),
    ofNew: Float64Array.from({ length: realsOfReals.count }, (_, i) => {
      const nearest = realsOfReals.id(i, 0);
      // Without real i, a ball that reaches past it grows to the next neighbour.
      const holds = Array.from({ length: last + 1 }, (_, rank) => realsOfReals.id(nearest, rank)).includes(i);
      return inRadii(realsOfReals.square(i, 0), realsOfReals.square(nearest, holds ? last + 1 : last));
    }).sort(),
  };
}

function inRadii(squaredDistance: number, squaredRadius: number): number {
  return squaredDistance === 0 ? 0 : Math.sqrt(squaredDistance / squaredRadius);
}

/**
 * How likely a new sample of the kind of the reals is at least as close as this: (1 + reals that are) / (1 + reals), which is
 * never 0 (Phipson and Smyth 2010).
 */
export function shareAsClose({ ofNew }: Closeness, distance: number): number {
  let low = 0;
  let high = ofNew.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ofNew[middle] as number) <= distance) low = middle + 1;
    else high = middle;
  }
  return (1 + low) / (1 + ofNew.length);
}
