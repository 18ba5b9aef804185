export { type CompareReport, compareRuns } from './compare/compare.ts';
export type { CompareOptions } from './compare/options.ts';
export type { ComparedSide, ComparedValue } from './compare/sides.ts';
export type { Spread } from './statistics/spread.ts';
export type { Place, SweepCell, SweepMetric, SweepValue } from './sweep/cells.ts';
export type { SweepOptions } from './sweep/options.ts';
export { reportSweep, type SweepReport, sweep } from './sweep/sweep.ts';
