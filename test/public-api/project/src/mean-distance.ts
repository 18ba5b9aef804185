// A metric: how far the mean of the generated samples is from that of the real ones.
import type { Metric } from 'iso-diffusion';

export const meanDistance: Metric<{ power: number }> = {
  kinds: ['images', 'points'],
  needs: { real: ['features'], fake: ['features'] },
  options: { power: 2 },
  compute({ real, fake, options: { power } }) {
    const means = [real.features, fake.features].map(({ data, count, dims }) => {
      const mean = new Float64Array(dims);
      for (const [i, x] of data.entries()) mean[i % dims] = (mean[i % dims] ?? 0) + x / count;
      return mean;
    });
    const [ofReal = [], ofFake = []] = means;
    const sum = Array.from(ofReal, (x, d) => Math.abs(x - (ofFake[d] ?? 0)) ** power).reduce((a, b) => a + b, 0);
    return { mean_distance: sum ** (1 / power) };
  },
};
