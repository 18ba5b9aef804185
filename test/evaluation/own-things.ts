/** A module of a user's own: `import` of `EvaluationCallback` and of the command line take one. */
import { type ExtractorFactory, extractors, type Metric, metrics } from '../../src/index.ts';

export interface MeanGapOptions {
  readonly power: number;
  readonly weight: number | undefined;
}

/** Σ |mean of real - mean of fake|^power over the dimensions. */
export const meanGap: Metric<MeanGapOptions> = {
  kinds: ['images', 'points'],
  needs: { real: ['statistics'], fake: ['features'] },
  options: { power: 1, weight: undefined },
  compute({ real, fake, options: { power, weight = 1 }, seed }) {
    const { data, count, dims } = fake.features;
    const means = new Float64Array(dims);
    data.forEach((value, at) => {
      means[at % dims] = (means[at % dims] ?? 0) + value / count;
    });
    const gaps = means.map((mean, d) => Math.abs(mean - (real.statistics.mu[d] ?? Number.NaN)) ** power);
    return { mean_gap: weight * gaps.reduce((sum, gap) => sum + gap, 0), mean_gap_seed: seed };
  },
};

/** One feature an image: its mean brightness, or that of the channel that follows the colon. */
const brightness: ExtractorFactory = async ({ layer, image_shape }) => ({
  name: `brightness ${layer ?? 'all'} ${image_shape?.height}x${image_shape?.width}`,
  checksum: 'b'.repeat(64),
  dims: 1,
  extract: async (images) =>
    Float32Array.from(images, ({ data }) => data.reduce((sum, value) => sum + value, 0) / data.length),
  dispose: async () => {},
});

metrics.register('mean-gap', meanGap);
extractors.register('brightness', brightness);
