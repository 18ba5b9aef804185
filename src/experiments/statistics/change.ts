// What a paired difference of a metric may be called.
import { metrics } from '../../metrics/registry.ts';
import { METRIC_TITLES, signed } from '../text.ts';
import { intervalText, type Spread } from './spread.ts';

/** Whether the interval of a change leaves out 0. */
export function isClear(change: Spread | undefined): boolean {
  return change?.half_width !== undefined && Math.abs(change.mean) > change.half_width;
}

/** Whether a change is for the better; undefined for values of which no registered metric says what is better. */
export function isBetter(value: string, change: Spread | undefined): boolean | undefined {
  const directions = metrics.names().map((name) => metrics.find(name)?.better?.[value]);
  const better = directions.find((direction) => direction !== undefined);
  if (better === undefined || !change) return undefined;
  return better === 'higher' ? change.mean > 0 : change.mean < 0;
}

/** What reports call a metric. */
export function metricTitle(name: string): string {
  return Object.entries(METRIC_TITLES).find(([key]) => key === name)?.[1] ?? name;
}

/** "+0.0113 Density [−0.0078, +0.0304]", without the interval for one pair; "–" for none. */
export function changeText(change: Spread | undefined, title = ''): string {
  if (!change) return '–';
  return [signed(change.mean), title, intervalText(change)].filter(Boolean).join(' ');
}
