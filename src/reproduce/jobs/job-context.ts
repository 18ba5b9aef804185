/** What a job needs of the process it runs in. */
export interface JobContext {
  /** When it aborts, the job saves where it is and rejects with the reason. */
  readonly signal: AbortSignal;
  /** @param fraction of the job that is done, 0 to 1. */
  onProgress(fraction: number): void;
}
