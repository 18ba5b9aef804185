import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadPoints } from '../../src/datasets/points/load-points.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { evaluate } from '../../src/evaluation/evaluate.ts';
import { extractors } from '../../src/evaluation/extractors/registry.ts';
import { imageStatistics } from '../../src/evaluation/image-statistics.ts';
import type { EvaluateOptions } from '../../src/evaluation/options.ts';
import type { Metric } from '../../src/metrics/metric.ts';
import { metrics } from '../../src/metrics/registry.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';
import './own-things.ts';
import { numberedImages, tableExtractor } from './table-images.ts';

const folder = await temporaryFolder();
const cache_dir = path.join(folder, 'cache');

describe("a metric of the user's own", () => {
  it('compares images by its name, with its options', async () => {
    const rows = Array.from({ length: 20 }, (_, i) => [i, i < 10 ? 0 : 3]);
    const inputs = {
      real: numberedImages('real', 0, 10),
      fake: numberedImages('fake', 10, 10),
      extractor: tableExtractor(rows),
      cache_dir,
      seed: 7,
    };
    const report = await evaluate({ ...inputs, metrics: ['mean-gap', 'fid'] });
    // The means are 4.5 and 14.5 in one dimension, 0 and 3 in the other.
    expect(report.metrics.mean_gap).toBeCloseTo(13, 10);
    expect(report.metrics).toMatchObject({ mean_gap_seed: 7, fid: expect.any(Number) });
    expect(report.settings).toEqual({ seed: 7, power: 1 });
    const metric_options = { power: 2, weight: 0.5 };
    const squared = await evaluate({ ...inputs, metrics: ['mean-gap'], metric_options });
    expect(squared.metrics.mean_gap).toBeCloseTo((100 + 9) / 2, 10);
    expect(squared.settings).toEqual({ seed: 7, power: 2, weight: 0.5 });
  });

  it('compares points', async () => {
    const [real, fake] = [await loadPoints('moons', { n: 50 }), await loadPoints('moons', { n: 40, seed: 1 })];
    const report = await evaluate({ real, fake, metrics: ['mean-gap', 'prdc'], nearest_k: 3 });
    expect(report.metrics.mean_gap).toBeGreaterThan(0);
    expect(report.settings).toEqual({ seed: 0, power: 1, nearest_k: 3 });
    expect((await evaluate({ real, fake: real, metrics: ['mean-gap'] })).metrics.mean_gap).toBeCloseTo(0, 7);
  });

  const flawed = (name: string, metric: Partial<Metric>) => {
    const complete: Metric = {
      kinds: ['points'],
      needs: {},
      options: {},
      compute: () => ({ [name]: 1 }),
      ...metric,
    };
    metrics.register(name, complete);
    return name;
  };
  it.each<[string, Partial<EvaluateOptions>, RegExp]>([
    [
      'a form that it does not list',
      { metrics: [flawed('reads', { compute: ({ fake }) => ({ n: fake.logits.count }) })] },
      /reads the logits of the fake samples: its 'needs' must list 'logits' under 'fake'/,
    ],
    [
      'a value that is not a number',
      { metrics: [flawed('text', { compute: () => ({ text: 'much' as never }) })] },
      /'text' returned 'text', which is not a number/,
    ],
    [
      "another metric's value",
      { metrics: ['prdc', flawed('again', { compute: () => ({ recall: 1 }) })] },
      /'again' returned 'recall', which another metric returned already/,
    ],
    ['other samples', { metrics: [flawed('of-images', { kinds: ['images'] })] }, /of images, not of points/],
    ['an option of the wrong type', { metrics: ['mean-gap'], metric_options: { power: '2' } }, /power is "2"/],
    ['an unknown option', { metrics: ['mean-gap'], metric_options: { pwr: 2 } }, /'pwr'.*they have power, weight/],
    ['a wrong option of a built-in one', { nearest_k: 0 }, /nearest_k is 0; it must be an integer/],
    [
      'what its check refuses, before anything is opened',
      {
        fake: 'no-such-thing',
        metrics: [
          flawed('strict', {
            check: () => {
              throw new InvalidArgumentError('never');
            },
          }),
        ],
      },
      /never/,
    ],
    ['a misspelt name', { metrics: ['mean-gab'] }, /not a metric: use fid, kid, is, prdc, .*mean-gap/],
  ])('is refused: %s', async (_, wrong, message) => {
    const points = await loadPoints('moons', { n: 20 });
    const failure = await evaluate({ real: points, fake: points, ...wrong }).catch((caught) => caught);
    expect(failure).toBeInstanceOf(InvalidArgumentError);
    expect(failure.message).toMatch(message);
  });
});

describe("a feature extractor of the user's own", () => {
  it('is made by its name, for an evaluation and for statistics', async () => {
    const sides = { real: numberedImages('real', 0, 10), fake: numberedImages('fake', 100, 10) };
    const report = await evaluate({
      ...sides,
      extractor: 'brightness:red',
      metrics: ['mean-gap'],
      cache_dir,
    });
    expect(report.extractor).toEqual({ name: 'brightness red 1x2', checksum: 'b'.repeat(64), dims: 1 });
    // Two pixels, of which one is the number: means 2.25 and 52.25.
    expect(report.metrics.mean_gap).toBeCloseTo(50, 5);
    const { statistics, extractor } = await imageStatistics({ images: sides.fake, extractor: 'brightness' });
    expect(extractor.name).toBe('brightness all 1x2');
    expect(statistics.mu[0]).toBeCloseTo(52.25, 5);
  });

  it('has a name of its own', () => {
    const other = async () => tableExtractor([[1]]);
    expect(() => extractors.register('inception', other)).toThrow(InvalidArgumentError);
    expect(extractors.names()).toEqual(expect.arrayContaining(['inception', 'vgg16', 'raw-pixels', 'brightness']));
  });
});
