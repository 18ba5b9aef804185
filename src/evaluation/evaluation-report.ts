/** One side of an evaluation. */
export interface EvaluatedSet {
  readonly name: string;
  /** Undefined for a file of statistics that does not say. */
  readonly count: number | undefined;
}

/** Which extractor features came from: figures of different ones do not compare. */
export interface ReportedExtractor {
  readonly name: string;
  /** SHA-256 in hex of its weights, or of its definition. */
  readonly checksum: string;
  readonly dims: number;
}

/** The outcome of `evaluate`, plain JSON. */
export interface EvaluationReport {
  /**
   * By name, those that were asked for: `fid`; `kid_mean`, `kid_std`; `is_mean`, `is_std`; `precision`, `recall`, `density`,
   * `coverage`.
   */
  readonly metrics: Readonly<Record<string, number>>;
  readonly real: EvaluatedSet;
  readonly fake: EvaluatedSet;
  readonly extractor: ReportedExtractor;
  readonly logits_extractor?: ReportedExtractor | undefined;
  /** The settings that the numbers depend on. */
  readonly settings: Readonly<Record<string, number>>;
}
