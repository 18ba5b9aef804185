import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import {
  huberLoss,
  isoLoss,
  type LossConfig,
  lossFromConfig,
  minSnrLoss,
  type PredictionType,
  p2Loss,
  simpleLoss,
} from '../../src/losses/index.ts';
import { relativeError } from '../models/run-graph.ts';
import { type PlainBatch, plainNoisy } from './plain-losses.ts';
import { runLoss } from './run-loss.ts';

interface Reference {
  batch: { n: number; alphas_cumprod: number[]; clean: number[]; epsilon: number[]; output: number[] };
  cases: { config: LossConfig; prediction_type: PredictionType; loss: number; gradient: number[] }[];
}
// By torch in float64: python3 scripts/loss_reference.py > test/fixtures/losses/torch.json
const reference: Reference = JSON.parse(
  readFileSync(new URL('../fixtures/losses/torch.json', import.meta.url), 'utf8'),
);
const { output, n, alphas_cumprod } = reference.batch;
const batch: PlainBatch = {
  n,
  alphaCumprod: alphas_cumprod,
  clean: Float64Array.from(reference.batch.clean),
  epsilon: Float64Array.from(reference.batch.epsilon),
};

describe('robust and weighted losses', () => {
  it.each(reference.cases)('$config of $prediction_type equals torch', async (given) => {
    const { config, prediction_type } = given;
    const result = await runLoss(lossFromConfig(config), batch, output, prediction_type);
    // Both compute in float64 and add up 35 numbers.
    expect(Math.abs(result.loss / given.loss - 1)).toBeLessThan(1e-13);
    expect(relativeError(result.gradient, given.gradient)).toBeLessThan(1e-13);
    expect(result.base).toBe(result.loss);
  });

  it('covers each of these losses with each prediction type that its source has', () => {
    const names = reference.cases.map(({ config, prediction_type }) => `${config.name} ${prediction_type}`);
    expect(new Set(names).size).toBe(12);
  });

  it.each(['p2', 'snr'])('%s gives one loss for one noise, whatever the model predicts', async (name) => {
    // Without the row of pure noise: there the velocity and x_0 say nothing of the noise.
    const rows = alphas_cumprod.length - 1;
    const part: PlainBatch = {
      n,
      alphaCumprod: alphas_cumprod.slice(0, rows),
      clean: batch.clean.slice(0, rows * n),
      epsilon: batch.epsilon.slice(0, rows * n),
    };
    const noisy = plainNoisy(part);
    const alpha = (i: number) => Number(alphas_cumprod[Math.floor(i / n)]);
    const noise = output.slice(0, rows * n);
    const clean = noise.map((e, i) => (Number(noisy[i]) - Math.sqrt(1 - alpha(i)) * e) / Math.sqrt(alpha(i)));
    const velocity = noise.map((e, i) => Math.sqrt(alpha(i)) * e - Math.sqrt(1 - alpha(i)) * Number(clean[i]));
    const loss = lossFromConfig({ name });
    const of = async (values: number[], kind: PredictionType) => (await runLoss(loss, part, values, kind)).loss;
    const expected = await of(noise, 'epsilon');
    // x_0 is the small difference of large numbers at abar = 4e-5.
    expect(Math.abs((await of(velocity, 'v_prediction')) / expected - 1)).toBeLessThan(1e-9);
    expect(Math.abs((await of(clean, 'sample')) / expected - 1)).toBeLessThan(1e-9);
  });

  it('are bases of the iso loss: with lambda 0 they are themselves, else the penalty is added', async () => {
    for (const config of [{ name: 'l1' }, { name: 'huber' }, { name: 'min-snr' }, { name: 'p2' }, { name: 'snr' }]) {
      const base = await runLoss(lossFromConfig(config), batch, output);
      const plain = await runLoss(isoLoss({ lambda: 0, base: lossFromConfig(config) }), batch, output);
      expect(plain.loss).toBe(base.loss);
      const iso = await runLoss(isoLoss({ lambda: 0.3, base: lossFromConfig(config) }), batch, output);
      expect(iso.loss).toBeCloseTo(base.loss + 0.3 * (base.isotropy - 1) ** 2, 12);
      expect(iso.base).toBe(base.loss);
    }
  });

  it('a Huber loss of a large delta is half of the simple loss', async () => {
    const half = await runLoss(huberLoss({ delta: 1e3 }), batch, output);
    const whole = await runLoss(simpleLoss(), batch, output);
    expect(half.loss * 2).toBeCloseTo(whole.loss, 12);
  });

  it('refuse options out of range', () => {
    for (const delta of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => huberLoss({ delta })).toThrow(InvalidArgumentError);
    for (const snr_gamma of [0, -5, Number.NaN])
      expect(() => minSnrLoss({ snr_gamma })).toThrow(`snr_gamma must be a finite number > 0, but is ${snr_gamma}`);
    expect(() => p2Loss({ p2_gamma: -1 })).toThrow('p2_gamma must be a finite number >= 0, but is -1');
    expect(() => p2Loss({ p2_k: 0 })).toThrow('p2_k must be a finite number > 0, but is 0');
    expect(() => lossFromConfig({ name: 'huber', delta: 'x' })).toThrow(ConfigError);
  });
});
