import { RandomStream, STREAM } from '../random/random-stream.ts';

/** Where the training samples come from: `count` samples of `sampleSize` values each. */
export interface SampleSource {
  readonly data: Float32Array;
  readonly count: number;
  readonly sampleSize: number;
}

/** The inputs of consecutive steps, one step after the other. */
export interface StepBatches {
  readonly clean: Float32Array;
  readonly noise: Float32Array;
  readonly timestep: Int32Array;
}

/**
 * Draws the batches of any step from (seed, step) alone, so that a resumed run continues exactly. Each epoch visits
 * the samples in a new random order; where the batch size does not divide their number, the last batch of an epoch is
 * filled from the beginning of that epoch's order.
 */
export class BatchSource {
  readonly stepsPerEpoch: number;
  private order: { epoch: number; indices: Uint32Array } | undefined;

  constructor(
    private readonly source: SampleSource,
    private readonly batchSize: number,
    private readonly trainTimesteps: number,
    private readonly seed: number,
  ) {
    this.stepsPerEpoch = Math.ceil(source.count / batchSize);
  }

  /** The inputs of `count` steps from step `first` (counted from 0). */
  steps(first: number, count: number): StepBatches {
    const { batchSize } = this;
    const { sampleSize } = this.source;
    const clean = new Float32Array(count * batchSize * sampleSize);
    const noise = new Float32Array(clean.length);
    const timestep = new Int32Array(count * batchSize);
    for (let i = 0; i < count; i++) {
      const rows = [i * batchSize * sampleSize, (i + 1) * batchSize * sampleSize] as const;
      this.copySamples(first + i, clean.subarray(...rows));
      new RandomStream(this.seed, STREAM.noise, first + i).fillNormal(noise.subarray(...rows));
      const times = new RandomStream(this.seed, STREAM.timesteps, first + i);
      for (let b = 0; b < batchSize; b++) timestep[i * batchSize + b] = times.integer(this.trainTimesteps);
    }
    return { clean, noise, timestep };
  }

  private copySamples(step: number, target: Float32Array): void {
    const { data, count, sampleSize } = this.source;
    const indices = this.epochOrder(Math.floor(step / this.stepsPerEpoch));
    const start = (step % this.stepsPerEpoch) * this.batchSize;
    for (let b = 0; b < this.batchSize; b++) {
      const row = (indices[(start + b) % count] as number) * sampleSize;
      for (let d = 0; d < sampleSize; d++) target[b * sampleSize + d] = data[row + d] as number;
    }
  }

  private epochOrder(epoch: number): Uint32Array {
    if (this.order?.epoch !== epoch) {
      this.order = {
        epoch,
        indices: new RandomStream(this.seed, STREAM.order, epoch).permutation(this.source.count),
      };
    }
    return this.order.indices;
  }
}
