import { gradients } from '../../graph/autodiff/gradients.ts';
import { type FlatBucket, flatten, unflatten } from '../../graph/flat-vectors.ts';
import type { Value } from '../../graph/graph.ts';
import { add, expandTo, gather, loop, mul, reshape } from '../../graph/ops/index.ts';
import { scalarLike } from '../../graph/registry.ts';
import { batchLoss, LOSS_TERMS, stackTerms } from './batch-loss.ts';
import type { GraphBatch } from './graph-batch.ts';
import type { TrainingGraphSettings } from './training-graph.ts';

/** Gradients as flat vectors, one a bucket, and the loss terms [4]. */
export interface BatchGradients {
  readonly flat: Value[];
  readonly terms: Value;
}

/** One vector of parameters. */
export interface ParameterVector {
  readonly bucket: FlatBucket;
  readonly value: Value;
}

/** The mean over the batches of a step. */
export function meanGradients(
  settings: TrainingGraphSettings,
  vectors: readonly ParameterVector[],
  samples: GraphBatch,
): BatchGradients {
  const { batchSize, accumulationSteps = 1 } = settings;
  const parameters = new Map(vectors.flatMap(({ bucket, value }) => [...unflatten(value, bucket)]));
  if (accumulationSteps === 1) return batchGradients(settings, vectors, parameters, samples);
  const { graph } = samples.noisySample;
  const zero = scalarLike(samples.noisySample, 0);
  const zeros = [...vectors.map(({ bucket }) => bucket.length), LOSS_TERMS.length].map((length) =>
    expandTo(zero, [length]),
  );
  const trips = graph.constant('int64', [], BigInt64Array.of(BigInt(accumulationSteps)));
  const perBatch = (value: Value, length: number) =>
    reshape(value, [accumulationSteps, length, ...value.shape.slice(1).map(Number)]);
  const byBatch = mapSamples(samples, (value) => perBatch(value, batchSize));
  const { state } = loop(trips, zeros, (_body, trip, sums) => {
    const batch = {
      ...mapSamples(byBatch, (value) => gather(value, trip)),
      dropoutNumbers: (length: number) =>
        gather(perBatch(samples.dropoutNumbers(accumulationSteps * length), length), trip),
    };
    const { flat, terms } = batchGradients(settings, vectors, parameters, batch);
    return { state: [...flat, terms].map((value, index) => add(sums[index] ?? value, value)) };
  });
  const means = state.map((sum) => mul(sum, scalarLike(sum, 1 / accumulationSteps)));
  return { flat: means.slice(0, -1), terms: means.at(-1) ?? zero };
}

function mapSamples(samples: GraphBatch, change: (value: Value) => Value): GraphBatch {
  const { noisySample, cleanSample, noise, timestep, alphaCumprod, classLabels } = samples;
  return {
    noisySample: change(noisySample),
    cleanSample: change(cleanSample),
    noise: change(noise),
    timestep: change(timestep),
    alphaCumprod: change(alphaCumprod),
    classLabels: classLabels && change(classLabels),
    dropoutNumbers: samples.dropoutNumbers,
  };
}

export function batchGradients(
  settings: TrainingGraphSettings,
  vectors: readonly ParameterVector[],
  /** Each parameter, cut from its vector. */
  parameters: ReadonlyMap<string, Value>,
  samples: GraphBatch,
): BatchGradients {
  const terms = batchLoss(settings, samples, parameters);
  const found = gradients(terms.loss, [...parameters.values()]);
  const byName = new Map([...parameters.keys()].map((name, index) => [name, found[index] as Value]));
  return {
    flat: vectors.map(({ bucket }) => flatten(byName, bucket)),
    terms: stackTerms(terms),
  };
}
