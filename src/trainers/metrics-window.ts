import { InvalidArgumentError } from '../errors.ts';
import { STEP_METRICS } from './step/training-graph.ts';
import type { StepMetrics } from './trainer-callback.ts';

/** Sums of the metrics since the last log; part of a checkpoint, so that a resumed run logs what an unbroken one would. */
export class MetricsWindow {
  private count = 0;
  private readonly sums: number[] = STEP_METRICS.map(() => 0);

  /** Adds one step's row of `STEP_METRICS`. */
  add(row: Float32Array): void {
    this.count += 1;
    row.forEach((value, index) => {
      this.sums[index] = (this.sums[index] ?? 0) + value;
    });
  }

  get isEmpty(): boolean {
    return this.count === 0;
  }

  means(learning_rate: number): StepMetrics {
    const [loss = 0, base_loss = 0, isotropy_penalty = 0, isotropy = 0, grad_norm = 0] = this.sums.map(
      (sum) => sum / this.count,
    );
    return { loss, base_loss, isotropy_penalty, isotropy, grad_norm, learning_rate };
  }

  clear(): void {
    this.count = 0;
    this.sums.fill(0);
  }

  toJSON(): number[] {
    return [this.count, ...this.sums];
  }

  /** @throws {InvalidArgumentError} when `saved` is not what `toJSON` gives. */
  restore(saved: unknown): void {
    if (
      !Array.isArray(saved) ||
      saved.length !== 1 + STEP_METRICS.length ||
      !saved.every((x) => typeof x === 'number')
    ) {
      throw new InvalidArgumentError(
        `a metrics window must be ${1 + STEP_METRICS.length} numbers, got ${JSON.stringify(saved)}`,
      );
    }
    const [count = 0, ...sums] = saved;
    this.count = count;
    this.sums.splice(0, sums.length, ...sums);
  }
}
