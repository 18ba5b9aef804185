// The isotropy of a trained model over its training data. It says by how much lambda scales the predicted noise, so that
// lambda can be changed after training (docs/theory.md).
import { elementCount } from '../graph/types.ts';
import type { LossConfig } from '../losses/loss.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { noiseCoefficients, splitChannels } from '../schedulers/steps.ts';
import { BatchStream, type ClassSettings } from './data/batch-stream.ts';
import type { Samples } from './data/samples.ts';

/** Values of predicted noise that are squared; a set of large images is measured on `MIN_SAMPLES` of them. */
const VALUES = 2 ** 18;
const MIN_SAMPLES = 128;
/** Values that go through the model at once, and the least number of samples. */
const BATCH_VALUES = 2 ** 14;
const MIN_BATCH = 16;

/** mean|eps-hat|^2 per element of a model over data, noise and timesteps. */
export interface MeasuredIsotropy {
  /** 1 for white noise; 1 less the mean squared error at the minimum of the DDPM loss. */
  readonly isotropy: number;
  readonly standard_error: number;
  /** Noised samples that were measured. */
  readonly samples: number;
}

export interface IsotropySource {
  /** The model's output for samples [count, ...sampleShape], with a timestep and a class for each. */
  predict(sample: Float32Array, timesteps: readonly number[], labels?: readonly number[]): Promise<Float32Array>;
  readonly samples: Samples;
  /** The noise schedule of the training. */
  readonly scheduler: Scheduler;
  /** For class-conditional models: as in training. */
  readonly classes?: ClassSettings | undefined;
  readonly seed: number;
  /** The first step whose noise the training has not seen. Default 0. */
  readonly firstStep?: number | undefined;
}

/**
 * Measures a model on noised samples of its data. The timesteps are spread evenly, one drawn from each of as many equal
 * ranges as there are samples, so that their variance does not add to the error.
 */
export async function measureIsotropy(source: IsotropySource): Promise<MeasuredIsotropy> {
  const { predict, scheduler, samples, classes, seed, firstStep = 0 } = source;
  const { num_train_timesteps: T, prediction_type } = scheduler.config;
  const size = elementCount(samples.sampleShape);
  const batchSize = Math.max(MIN_BATCH, Math.floor(BATCH_VALUES / size));
  const batches = Math.ceil(Math.max(MIN_SAMPLES, VALUES / size) / batchSize);
  const count = batches * batchSize;
  const stream = new BatchStream(samples, { batchSize, trainTimesteps: T, seed, classes });
  const times = new RandomStream(seed, STREAM.metrics, firstStep);
  const squares: number[] = [];
  for (let batch = 0; batch < batches; batch++) {
    const { clean, noise, class_labels } = stream.steps(firstStep + batch, 1);
    const timesteps = Array.from({ length: batchSize }, (_, b) =>
      Math.floor(((squares.length + b + times.uniform()) / count) * T),
    );
    const noised = scheduler.addNoise(clean, noise, timesteps, size);
    const output = await predict(noised, timesteps, class_labels && [...class_labels]);
    const [mean] = output.length === 2 * noised.length ? splitChannels(output, batchSize) : [output];
    timesteps.forEach((timestep, b) => {
      const { fromSample, fromOutput } = noiseCoefficients(prediction_type, scheduler.alphasCumprod[timestep] ?? 0);
      let sum = 0;
      for (let i = b * size; i < (b + 1) * size; i++)
        sum += (fromSample * (noised[i] ?? 0) + fromOutput * (mean[i] ?? 0)) ** 2;
      squares.push(sum / size);
    });
  }
  const isotropy = squares.reduce((sum, square) => sum + square, 0) / count;
  // Neighbours have nearly the same timestep: their differences show the error without the change with t.
  const differences = squares.reduce((sum, square, i) => sum + (square - (squares[i - 1] ?? square)) ** 2, 0);
  return { isotropy, standard_error: Math.sqrt(differences / (2 * count * (count - 1))), samples: count };
}

/**
 * The weight of the isotropy penalty that a loss was made with: that of `isoLoss`, alone or as the base of `hybridLoss`,
 * whose bound does not train the predicted noise; 0 for `simpleLoss`; undefined for another loss, of whose minimiser
 * nothing is known.
 */
export function trainedLambda(loss: LossConfig): number | undefined {
  const { name, lambda, base } = loss;
  if (name === 'simple') return 0;
  if (name === 'hybrid' && base) return trainedLambda(base as LossConfig);
  if (name === 'iso' && typeof lambda === 'number' && (base as LossConfig | undefined)?.name === 'simple')
    return lambda;
  return undefined;
}
