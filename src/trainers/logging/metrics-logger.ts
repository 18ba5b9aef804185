/** Receives the numbers of a training run as they arise. */
export interface MetricsLogger {
  /** @param step how many optimizer steps are done. @param values by name; any number, NaN and infinities included. */
  log(step: number, values: Readonly<Record<string, number>>): void;
  /** Waits until everything logged is on the disk. */
  flush(): Promise<void> | void;
  /** Flushes and releases the file. Nothing may be logged afterwards. */
  close(): Promise<void> | void;
}
