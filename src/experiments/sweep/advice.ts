import { changeText, isBetter, isClear } from '../statistics/change.ts';
import { METRIC_TITLES } from '../text.ts';
import type { SweepCell, SweepMetric, SweepValue } from './cells.ts';

/**
 * One sentence on what the sweep shows, which claims only changes whose 95 % intervals leave out 0. It names the weight with the
 * most clear gains over clear losses, and all its clear changes.
 */
export function sweepAdvice(cells: readonly SweepCell[]): string {
  const candidates = cells
    .filter(({ lambda }) => lambda > 0)
    .map((cell) => ({ cell, ...clearChanges(cell) }))
    .sort((a, b) => b.gains.length - b.losses.length - (a.gains.length - a.losses.length));
  const runs = Math.max(0, ...cells.map((cell) => cell.runs));
  const seeds = `${runs} ${runs === 1 ? 'seed' : 'seeds'}`;
  if (runs < 2) return `${seeds}: differences need at least 2 seeds.`;
  const [best] = candidates;
  if (best && best.gains.length > 0)
    return `${weightText(best.cell)}: ${[...best.gains, ...best.losses].join(', ')}${best.unclear}; ${seeds}.`;
  const harmful = candidates.filter(({ losses }) => losses.length > 0);
  if (harmful.length === 0) return `No weight changes a metric clearly; ${seeds}.`;
  const losses = harmful.map(({ cell, losses }) => `${weightText(cell)}: ${losses.join(', ')}`);
  return `No weight is clearly better than 0 in any metric. ${losses.join('; ')}; ${seeds}.`;
}

function clearChanges({ values }: SweepCell): { gains: string[]; losses: string[]; unclear: string } {
  const measured = Object.entries(values) as [SweepMetric, SweepValue][];
  const clear = measured.filter(([, { change }]) => isClear(change));
  const unclear = measured.filter(([, { change }]) => !isClear(change)).map(([metric]) => METRIC_TITLES[metric]);
  const text = ([metric, { change }]: [SweepMetric, SweepValue]) => changeText(change, METRIC_TITLES[metric]);
  return {
    gains: clear.filter(([metric, { change }]) => isBetter(metric, change)).map(text),
    losses: clear.filter(([metric, { change }]) => !isBetter(metric, change)).map(text),
    unclear: unclear.length === 0 ? '' : `; ${unclear.join(', ')} unclear`,
  };
}

/** "λ = 0.1", or with the place where it comes in when that is not the training. */
export function weightText({ lambda, place }: Pick<SweepCell, 'lambda' | 'place'>): string {
  return place === 'training' ? `λ = ${lambda}` : `λ = ${lambda} when sampling`;
}
