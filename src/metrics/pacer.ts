import { setImmediate } from 'node:timers/promises';

const TURN_MS = 50;

/** Lets a long computation report progress, be aborted, and leave the event loop a turn every 50 ms. */
export class Pacer {
  private done = 0;
  private lastTurn = performance.now();

  /** @param total the units of work of the whole computation. */
  constructor(
    private readonly total: number,
    private readonly onProgress?: (fraction: number) => void,
    private readonly signal?: AbortSignal,
  ) {
    signal?.throwIfAborted();
  }

  /** Counts `units` as done. @throws the signal's reason once it is aborted. */
  async advance(units: number): Promise<void> {
    this.done += units;
    const now = performance.now();
    const finished = this.done >= this.total;
    if (!finished && now - this.lastTurn < TURN_MS) return;
    this.onProgress?.(Math.min(1, this.done / this.total));
    await setImmediate();
    this.signal?.throwIfAborted();
    this.lastTurn = performance.now();
  }
}
