import type { Target } from './targets.ts';

/** What one table, figure or section of the paper came to. */
export interface TargetReport {
  readonly target: Target;
  readonly title: string;
  /** Headings from level 3; without the plots, which follow it. */
  readonly markdown: string;
  /** One row a value, for CSV and JSON; all rows have the same keys. */
  readonly rows: readonly ReportRow[];
  readonly plots: readonly ReportPlot[];
}

export type ReportRow = Readonly<Record<string, string | number | null>>;

export interface ReportPlot {
  /** File name without extension. */
  readonly name: string;
  readonly caption: string;
  /** SVG text, or the bytes of a PNG where the plot is made of images. */
  readonly image: string | Buffer;
}
