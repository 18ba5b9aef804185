/** A table of Markdown, padded so that it reads in plain text too. */
export function markdownTable(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headers.map((header, column) =>
    Math.max(3, header.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width)).join(' | ')} |`;
  return [line(headers), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** "+0.0123", with a true minus sign. */
export function signed(value: number, digits = 4): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return `±${text}`;
  return value < 0 ? `−${text}` : `+${text}`;
}

/** "+0.0000" or "−0.0000" for the end of an interval: its sign says on which side of 0 it is. */
export function signedBound(value: number, digits = 4): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`;
}

/** What reports call the metrics. */
export const METRIC_TITLES = {
  fid: 'FID',
  inception_score: 'Inception Score',
  precision: 'Precision',
  recall: 'Recall',
  density: 'Density',
  coverage: 'Coverage',
} as const;

export function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** "1 run", "3 runs". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** A header with the keys of the first row, then one line per row. Null becomes an empty cell. */
export function csvText(rows: readonly Readonly<Record<string, string | number | null>>[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const cell = (value: string | number | null | undefined) => {
    const text = String(value ?? '');
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${[columns.join(','), ...rows.map((row) => columns.map((column) => cell(row[column])).join(','))].join('\n')}\n`;
}
