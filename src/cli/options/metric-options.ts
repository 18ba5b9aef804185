import * as z from '../../zod.ts';
import { booleanSchema, grouped, option, type Settings } from './command-options.ts';

/** Options of the built-in metrics, under torch-fidelity's names. `evaluate` checks their values. */
export const metricOptions = grouped('Metrics:', {
  kid_subsets: option('--kid-subsets <count>', z.optional(z.number()), 'pairs of subsets of kid (default: 100)'),
  kid_subset_size: option(
    '--kid-subset-size <count>',
    z.optional(z.number()),
    'samples of a subset of kid (default: 1000, or half of the smaller set)',
  ),
  kid_degree: option('--kid-degree <degree>', z.optional(z.number()), "degree of kid's kernel (default: 3)"),
  kid_gamma: option('--kid-gamma <value>', z.optional(z.number()), "gamma of kid's kernel (default: 1 / dims)"),
  kid_coef0: option('--kid-coef0 <value>', z.optional(z.number()), "coef0 of kid's kernel (default: 1)"),
  is_splits: option(
    '--isc-splits, --is-splits <count>',
    z.optional(z.number()),
    'parts of the set for is (default: 10)',
  ),
  is_shuffle: option(
    '--is-shuffle <true|false>',
    z.optional(booleanSchema),
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
