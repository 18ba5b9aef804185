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
