import * as z from 'zod';
import { booleanSchema, grouped, option, type Settings } from './command-options.ts';

/** Options of the built-in metrics, under torch-fidelity's names. `evaluate` checks their values. */
export const metricOptions = grouped('Metrics:', {
  kid_subsets: option('--kid-subsets <count>', z.number().optional(), 'pairs of subsets of kid (default: 100)'),
  kid_subset_size: option(
    '--kid-subset-size <count>',
    z.number().optional(),
    'samples of a subset of kid (default: 1000, or half of the smaller set)',
  ),
  kid_degree: option('--kid-degree <degree>', z.number().optional(), "degree of kid's kernel (default: 3)"),
  kid_gamma: option('--kid-gamma <value>', z.number().optional(), "gamma of kid's kernel (default: 1 / dims)"),
  kid_coef0: option('--kid-coef0 <value>', z.number().optional(), "coef0 of kid's kernel (default: 1)"),
  is_splits: option(
    '--isc-splits, --is-splits <count>',
    z.number().optional(),
    'parts of the set for is (default: 10)',
  ),
  is_shuffle: option(
    '--is-shuffle <true|false>',
    booleanSchema.optional(),
    'whether the images go to the parts of is in a random order (default: true)',
  ),
});

/** Those that were given. */
export function givenMetricOptions(settings: Settings<typeof metricOptions>): Record<string, number | boolean> {
  const given: Record<string, number | boolean> = {};
  for (const key of Object.keys(metricOptions) as (keyof typeof metricOptions)[]) {
    const value = settings[key];
    if (value !== undefined) given[key] = value;
  }
  return given;
}
