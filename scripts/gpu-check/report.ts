import type { Case, Row, Section } from './section.ts';

/** What came of one measurement. */
export interface Outcome {
  readonly given: Case;
  readonly rows: readonly Row[];
  /** Why there are no rows. */
  readonly failure?: string | undefined;
  readonly seconds: number;
}

export interface Machine {
  readonly card: string;
  readonly cpu: string;
  readonly node: string;
  readonly date: string;
  readonly quick: boolean;
}

/** Whether a value is above its limit; NaN is. */
export const isAbove = ({ value, limit }: Row): boolean =>
  limit !== undefined && !(typeof value === 'number' && value <= limit);

/** Three digits, or four before the point. */
export function shown(value: Row['value']): string {
  if (typeof value === 'string') return value;
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-2) return value.toExponential(1);
  return size >= 1000 ? value.toFixed(0) : value.toPrecision(3);
}

/** The report as Markdown, one table a section. */
export function markdown(
  { card, cpu, node, date, quick }: Machine,
  outcomes: readonly Outcome[],
  sections: Readonly<Record<string, Section>>,
): string {
  const parts = [
    '# GPU check',
    `${card}; ${cpu}; Node.js ${node}; ${date.slice(0, 10)}.${quick ? ' A trial with small models: its times mean nothing.' : ''}`,
  ];
  for (const [name, { title, note }] of Object.entries(sections)) {
    const own = outcomes.filter(({ given }) => given.section === name);
    if (own.length > 0) parts.push(`## ${title}`, note, table(own));
  }
  return `${parts.join('\n\n')}\n`;
}

/** A line for each case, a column for each value. */
function table(outcomes: readonly Outcome[]): string {
  const columns = [...new Set(outcomes.flatMap(({ rows }) => rows.map(({ what }) => what.replace(/ \(.*\)$/, ''))))];
  const lines = outcomes.map(({ given, rows, failure }) => {
    const cells = columns.map((column) => {
      const row = rows.find(({ what }) => what.startsWith(column));
      if (!row) return '';
      return isAbove(row) ? `**${shown(row.value)}** (limit ${row.limit})` : shown(row.value);
    });
    if (failure !== undefined) cells[0] = `failed: ${failure.replaceAll('|', '\\|')}`;
    return [given.device, given.precision, String(given.batch), ...cells];
  });
  const head = ['device', 'precision', 'batch', ...columns];
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
