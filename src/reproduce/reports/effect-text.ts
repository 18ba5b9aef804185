import type { Effect, Verdict } from './effect.ts';
import { signed } from './markdown.ts';

/** "+0.0021 ± 0.0010 (+0.082): agrees". */
export function effectText(effect: Effect | undefined): string {
  if (!effect) return '–';
  const { measured, paper, verdict } = effect;
  const spread = measured.std === undefined ? '' : ` ± ${measured.std.toFixed(4)}`;
  const published = paper === undefined ? '' : ` (${signed(paper, 3)}): ${verdict}`;
  return `${signed(measured.mean)}${spread}${published}`;
}

/** One sentence that counts the verdicts. */
export function verdictSummary(name: string, effects: readonly (Effect | undefined)[]): string {
  const verdicts = effects.flatMap((effect) => effect?.verdict ?? []);
  if (verdicts.length === 0) return `${name}: no effect can be compared with the paper's yet.`;
  const count = (wanted: Verdict) => verdicts.filter((verdict) => verdict === wanted).length;
  const none = count('none in the paper');
  return `${name}: of ${verdicts.length} effects, ${count('agrees')} have the paper's sign, ${count('opposite')} the opposite one, ${count('unclear')} are unclear${none > 0 ? `, and for ${none} the paper shows none` : ''}.`;
}
