import { describe, expect, it } from 'vitest';
import { concatenated } from '../../src/graph/types.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples, pointSamples } from '../../src/trainers/data/samples.ts';
import type { HostBatch } from '../../src/trainers/step/batch.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const samplesOf = {
  points: () => pointSamples(circle()),
  images: () => imageSamples(stripes(), { random_flip: true }),
};
const stream = (kind: keyof typeof samplesOf, own?: { first: number; count: number }) =>
  new BatchStream(samplesOf[kind](), {
    batchSize: 12,
    own,
    trainTimesteps: 1000,
    noiseOffset: 0.3,
    inputPerturbation: 0.1,
    seed: 5,
    classes: kind === 'images' ? { classCount: 3, dropout: 0.4 } : undefined,
  });

function joined(parts: readonly HostBatch[]): HostBatch {
  const [first] = parts;
  return {
    clean: concatenated(parts.map(({ clean }) => clean)),
    noise: concatenated(parts.map(({ noise }) => noise)),
    input_noise: concatenated(parts.map(({ input_noise = new Float32Array() }) => input_noise)),
    timestep: concatenated(parts.map(({ timestep }) => timestep)),
    class_labels: first?.class_labels && concatenated(parts.map(({ class_labels = new Int32Array() }) => class_labels)),
  };
}

describe.each(['points', 'images'] as const)('the samples of a step, %s', (kind) => {
  it.each([[[12]], [[6, 6]], [[4, 4, 4]], [[1, 5, 6]]])('are the same in parts of %j', (counts) => {
    // Step 13 begins in the second epoch, and is filled up from the beginning of its order.
    for (const step of [0, 3, 13]) {
      let first = 0;
      const parts = counts.map((count) => {
        const part = stream(kind, { first, count });
        first += count;
        return { batch: part.steps(step, 1), part };
      });
      expect(joined(parts.map(({ batch }) => batch))).toEqual(stream(kind).steps(step, 1));
      const dropped = parts.map(({ part }, i) => {
        const count = counts[i] ?? 0;
        return part.dropoutNumbers({ step, dropout: 2, first: 0, count }, new Float32Array(7 * count));
      });
      const whole = stream(kind).dropoutNumbers({ step, dropout: 2, first: 0, count: 12 }, new Float32Array(84));
      expect(concatenated(dropped)).toEqual(whole);
    }
  });

  it('differ from step to step, and from sample to sample', () => {
    const { noise, timestep } = stream(kind).steps(0, 2);
    expect(new Set(noise).size).toBe(noise.length);
    expect(new Set(timestep).size).toBeGreaterThan(20);
  });
});
