import { capitalised, markdownTable, signed } from '../../text.ts';
import type { ReportRow, TargetReport } from '../paper/targets.ts';
import type { Verdict } from './effect.ts';

const VERDICTS: readonly Verdict[] = ['agrees', 'opposite', 'unclear', 'none in the paper'];

/**
 * For each metric, how the effects of λ and the values compare with the paper's. Undefined if the paper has none of the
 * values, or no effect has a verdict.
 */
export function agreementMarkdown(reports: readonly TargetReport[]): string | undefined {
  const rows = distinctRows(reports).filter(({ mean, paper }) => typeof mean === 'number' && typeof paper === 'number');
  if (!rows.some((row) => row.effect_verdict !== null)) return undefined;
  const metrics = [...new Set(rows.map(({ metric }) => String(metric)))];
  return [
    '## What agrees and what does not',
    'Effects of λ against λ = 0, and the distance of the values from the published ones:',
    markdownTable(
      ['Metric', ...VERDICTS.map(capitalised), 'Mean distance', 'Largest distance (measured − paper)'],
      metrics.map((metric) => {
        const ofMetric = rows.filter((row) => row.metric === metric);
        const count = (verdict: Verdict) => ofMetric.filter((row) => row.effect_verdict === verdict).length;
        const distances = ofMetric.map((row) => ({ row, distance: Number(row.mean) - Number(row.paper) }));
        const mean = distances.reduce((sum, { distance }) => sum + Math.abs(distance), 0) / distances.length;
        const worst = distances.reduce((a, b) => (Math.abs(b.distance) > Math.abs(a.distance) ? b : a));
        return [
          capitalised(metric.replaceAll('_', ' ')),
          ...VERDICTS.map((verdict) => String(count(verdict))),
          mean.toFixed(4),
          `${signed(worst.distance)} (${worst.row.dataset}, λ = ${worst.row.lambda})`,
        ];
      }),
    ),
  ].join('\n\n');
}

/** Table 1 repeats cells of Tables 2 to 5. */
function distinctRows(reports: readonly TargetReport[]): ReportRow[] {
  const rows = reports.filter(({ target }) => target.startsWith('table-')).flatMap((report) => report.rows);
  const distinct = new Map(rows.map((row) => [`${row.dataset} ${row.lambda} ${row.metric}`, row]));
  return [...distinct.values()];
}
