import type { SettingChange } from '../checkpoint/run-identity.ts';

/** Receives the numbers of a training run as they arise. */
export interface MetricsLogger {
  /** @param step how many optimizer steps are done. @param values by name; any number, NaN and infinities included. */
  log(step: number, values: Readonly<Record<string, number>>): void;
  /** Records that the steps from `step` on are taken with other settings. Where a format has numbers alone, it does nothing. */
  note?(step: number, changes: readonly SettingChange[]): void;
  /** Waits until everything logged is on the disk. */
  flush(): Promise<void> | void;
  /** Flushes and releases the file. Nothing may be logged afterwards. */
  close(): Promise<void> | void;
}
