// The isotropy of a trained model over its training data. It says by how much lambda scales the predicted noise, so that
// lambda can be changed after training (docs/theory.md).
import { Graph } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { square } from '../graph/ops/elementwise.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { split } from '../graph/ops/shape.ts';
import { elementCount } from '../graph/types.ts';
import { predictedEpsilon } from '../losses/isotropy.ts';
import type { LossConfig } from '../losses/loss.ts';
import { learnsVariance } from '../models/model.ts';
import { ForwardContext } from '../nn/context.ts';
import { type Layout, nchw, permuteAxes } from '../nn/layout.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../runtime/session.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { noiseCoefficients, splitChannels } from '../schedulers/steps.ts';
import { BatchStream } from './data/batch-stream.ts';
import { asHostTensors, batchInputs, type HostBatch, mapBatch } from './step/batch.ts';
import type { DiffusionObjective } from './step/diffusion-objective.ts';
import { declareBatches, onlyStep, shapeIn } from './step/loss-graph.ts';
import type { StepSettings } from './step/settings.ts';

/** Values of predicted noise that are squared: they decide the error. Large images are measured on `MIN_SAMPLES`. */
const VALUES = 2 ** 17;
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

/** The mean squared predicted noise per element of each sample of a batch. */
export type SquaredNoise = (batch: HostBatch) => Promise<ArrayLike<number>>;

/** Samples of one batch of a measurement, for samples of `size` values. */
export function isotropyBatchSize(size: number): number {
  return Math.max(MIN_BATCH, Math.floor(BATCH_VALUES / size));
}

/**
 * Measures a model on noised samples of its data. The timesteps are spread evenly, one drawn from each of as many equal
 * ranges as there are samples, so that their variance does not add to the error.
 *
 * @param batches the data, and the timesteps, classes and seed of the training.
 * @param firstStep the first step whose noise the training has not seen.
 */
export async function measureIsotropy(
  squaredNoise: SquaredNoise,
  { samples, settings }: BatchStream,
  firstStep: number,
): Promise<MeasuredIsotropy> {
  const { trainTimesteps = 1 } = settings;
  const size = elementCount(samples.sampleShape);
  const batchSize = isotropyBatchSize(size);
  const batches = Math.ceil(Math.max(MIN_SAMPLES, VALUES / size) / batchSize);
  const count = batches * batchSize;
  const stream = new BatchStream(samples, { ...settings, batchSize, own: undefined });
  const times = new RandomStream(settings.seed, STREAM.metrics, firstStep);
  const squares: number[] = [];
  for (let batch = 0; batch < batches; batch++) {
    const timestep = Int32Array.from({ length: batchSize }, (_, b) =>
      Math.floor(((squares.length + b + times.uniform()) / count) * trainTimesteps),
    );
    const { length } = timestep;
    const measured = await squaredNoise({ ...stream.steps(firstStep + batch, 1), timestep });
    squares.push(...Array.from({ length }, (_, b) => measured[b] ?? Number.NaN));
  }
  const isotropy = squares.reduce((sum, value) => sum + value, 0) / count;
  // Neighbours have nearly the same timestep: their differences show the error without the change with t.
  const differences = squares.reduce((sum, value, i) => sum + (value - (squares[i - 1] ?? value)) ** 2, 0);
  return { isotropy, standard_error: Math.sqrt(differences / (2 * count * (count - 1))), samples: count };
}

/** A model that can be asked for its output: `pipeline.model` is one. */
interface Predictor {
  predict(
    sample: Float32Array,
    timestep: readonly number[],
    classLabels?: readonly number[],
    condition?: Float32Array,
  ): Promise<Float32Array>;
}

/** The squared noise of a loaded model with its scheduler. */
export function squaredNoiseOf(model: Predictor, scheduler: Scheduler): SquaredNoise {
  const { alphasCumprod, config } = scheduler;
  return async ({ clean, noise, input_noise = noise, timestep, class_labels, condition }) => {
    const timesteps = [...timestep];
    const size = clean.length / timesteps.length;
    const noised = scheduler.addNoise(clean, input_noise, timesteps, size);
    const output = await model.predict(noised, timesteps, class_labels && [...class_labels], condition);
    const [mean] = output.length > noised.length ? splitChannels(output, timesteps.length) : [output];
    return timesteps.map((t, row) => {
      const { fromSample, fromOutput } = noiseCoefficients(config.prediction_type, alphasCumprod[t] as number);
      let sum = 0;
      for (let i = row * size; i < (row + 1) * size; i++)
        sum += (fromSample * (noised[i] as number) + fromOutput * (mean[i] as number)) ** 2;
      return sum / size;
    });
  };
}

/** Runs a model of this package on a device, with weights that are given anew each time. */
export class SquaredNoiseSession {
  private constructor(
    private readonly session: Session,
    private readonly settings: StepSettings<DiffusionObjective>,
    private readonly layout: Layout,
  ) {}

  /** @param settings `batchSize` and `lossScalars` are not used. */
  static async create(
    settings: StepSettings<DiffusionObjective>,
    device: ConcreteDevice,
  ): Promise<SquaredNoiseSession> {
    const batchSize = isotropyBatchSize(elementCount(settings.objective.model.sampleShape));
    const sized = { ...settings, batchSize, lossScalars: [] };
    const hasFilters = settings.objective.parameters.some(({ isFilter }) => isFilter);
    // A page that trains points on wasm does not load what networks on images need.
    const layout = hasFilters ? (await import('./engines/host.ts')).layoutOn(device) : nchw;
    const session = await Session.create(writeOnnx(squaredNoiseGraph(sized, layout)), device);
    return new SquaredNoiseSession(session, sized, layout);
  }

  /** @param weights by the names of the parameters. */
  of(weights: ReadonlyMap<string, Float32Array>): SquaredNoise {
    const { settings, layout } = this;
    const { objective, batchSize } = settings;
    const parameters = objective.parameters.map((spec) => {
      const given = weights.get(spec.name) ?? new Float32Array();
      const values = spec.isFilter ? permuteAxes(given, spec.shape, layout.filterAxes) : given;
      return [spec.name, hostTensor('float32', shapeIn(layout, spec), values)] as const;
    });
    return async (batch) => {
      const feeds = {
        ...Object.fromEntries(parameters),
        ...asHostTensors(batchInputs(objective, batch, [1, batchSize])),
      };
      const { squares } = await this.session.run(this.session.used(feeds));
      return float32Data(squares, 'squares');
    };
  }

  release(): Promise<void> {
    return this.session.release();
  }
}

/** Inputs: the parameters in `layout`, and a batch as in training. Output: `squares`, float32 [batch]. Without dropout. */
function squaredNoiseGraph({ objective, batchSize }: StepSettings<DiffusionObjective>, layout: Layout): Graph {
  const { model, predictionType } = objective;
  const graph = new Graph('squared_noise');
  const parameters = new Map(
    model.parameters.map((spec) => [spec.name, graph.input(spec.name, 'float32', shapeIn(layout, spec))] as const),
  );
  const batch = mapBatch(declareBatches(graph, { objective }, [1, batchSize]), onlyStep);
  const context = new ForwardContext(parameters, { modelName: model.config._class_name, layout });
  const { noisy, timestep, class_labels, condition } = batch;
  const output = model.forward({ sample: noisy, timestep, class_labels, condition }, context);
  const [channels = 1] = model.sampleShape;
  const [modelOutput = output] = learnsVariance(model) ? split(output, [channels, channels], 1) : [output];
  const epsilon = predictedEpsilon({
    modelOutput,
    epsilon: batch.noise,
    noisySample: noisy,
    cleanSample: batch.clean,
    alphaCumprod: batch.alphaCumprod,
    predictionType,
  });
  const axes = model.sampleShape.map((_, axis) => axis + 1);
  graph.output('squares', reduceMean(square(epsilon), axes));
  return graph;
}

/**
 * The weight of the isotropy penalty that a loss was made with: that of `isoLoss`, alone or as the base of `hybridLoss`,
 * whose bound does not train the predicted noise; 0 for `simpleLoss`; null for another loss, of whose minimiser nothing is
 * known, and for one whose lambda was changed while it was minimised.
 */
export function trainedLambda(
  { name, lambda, base }: LossConfig,
  changes: readonly { readonly name: string }[] = [],
): number | null {
  if (changes.some((change) => change.name === 'loss.lambda')) return null;
  if (name === 'simple') return 0;
  if (name === 'hybrid' && typeof base === 'object') return trainedLambda(base);
  const isPlain = typeof base === 'object' && base.name === 'simple';
  return name === 'iso' && typeof lambda === 'number' && isPlain ? lambda : null;
}
