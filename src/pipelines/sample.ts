// The reverse process, step by step: from noise to samples (Ho et al. 2020, algorithm 2, for any scheduler).
import { InvalidArgumentError } from '../errors.ts';
import { elementCount } from '../graph/types.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { splitChannels } from '../schedulers/steps.ts';
import { type Edit, editedStart, editOf, levelBefore, noisedAgain, visitedEntries, withKept } from './editing/edit.ts';
import { type NoiseStreams, noiseOf, noiseStreams } from './editing/latents.ts';
import { allFinite, checkedSample, checkModelOutput } from './finite-checks.ts';
import type { Guidance } from './guidance.ts';
import type { ModelSession } from './model-session.ts';
import { outputScales, scaledOutput } from './noise-scale.ts';
import { type SamplingCall, startedScheduler } from './sampling-options.ts';
import { type StepNoise, stepNoise } from './step-noise.ts';

/** One batch of a call. */
export interface SamplingRun extends SamplingCall {
  readonly batchSize: number;
  /** Index of the first sample, where the batch is a part of a larger one; default 0. */
  readonly firstSample?: number | undefined;
  /** The classes of the samples, where the model has any; `predict` then predicts with them. */
  readonly guidance?: Guidance | undefined;
  /** In place of the model's own prediction, for instance with guidance. */
  readonly predict?: ((sample: Float32Array, timestep: number) => Promise<Float32Array>) | undefined;
}

/**
 * The samples, row-major [batchSize, ...model.sampleShape], in model units.
 *
 * @throws {InvalidArgumentError} when the scheduler or the model refuses a value.
 * @throws {NonFiniteSampleError} when the model or the scheduler gives NaN or infinity.
 * @throws `signal.reason` when the signal aborts.
 */
export async function sample(model: ModelSession, run: SamplingRun): Promise<Float32Array> {
  const { batchSize, firstSample: first = 0 } = run;
  const size = elementCount(model.sampleShape);
  const streams = noiseStreams(run, batchSize, size, first);
  const scheduler = startedScheduler(run);
  const edit = run.edit && editOf(run.edit, first, batchSize, size);
  const entries = visitedEntries(scheduler, edit);
  const isNoisy = entries.map((entry) => scheduler.needsNoise(scheduler.timesteps[entry] as number, run.eta));
  // An edit draws between the steps too.
  const ahead = model.device !== 'cpu' && !edit;
  const noisySteps = isNoisy.filter(Boolean).length;
  const noise = stepNoise({ ...noiseOf(run), count: batchSize, size, first }, streams, { ahead, noisySteps });
  try {
    return await samplesOf(model, run, { scheduler, edit, entries, isNoisy, noise, streams });
  } finally {
    await noise.close();
  }
}

interface Steps {
  readonly scheduler: Scheduler;
  readonly edit: Edit | undefined;
  readonly entries: readonly number[];
  /** Whether each of the entries needs noise. */
  readonly isNoisy: readonly boolean[];
  readonly noise: StepNoise;
  /** What an edit draws from. */
  readonly streams: NoiseStreams;
}

async function samplesOf(model: ModelSession, run: SamplingRun, steps: Steps): Promise<Float32Array> {
  const { batchSize, eta, use_clipped_model_output, callback, onProgress, signal } = run;
  const { predict = (x: Float32Array, timestep: number) => model.predict(x, timestep) } = run;
  const { edit, entries, isNoisy, streams } = steps;
  let { scheduler } = steps;
  const { timesteps } = scheduler;
  const scales = run.noiseScale && outputScales(run.noiseScale, scheduler);
  const sample_shape = [batchSize, ...model.sampleShape];

  const normals = await steps.noise.start();
  const begin = entries[0] ?? timesteps.length;
  let x = edit ? editedStart(edit, normals, scheduler, begin) : initialNoise(normals, scheduler);
  if (edit && entries.length > 0) scheduler.setBeginIndex(begin);
  const drawn = new Float32Array(edit ? x.length : 0);
  const lastNoisy = isNoisy.lastIndexOf(true);
  let noise: Float32Array = new Float32Array(x.length);
  for (const [step, entry] of entries.entries()) {
    signal?.throwIfAborted();
    onProgress?.(step / entries.length);
    const timestep = timesteps[entry] as number;
    const place = { index: step, count: entries.length, timestep };
    const last = entries[step - 1];
    if (last !== undefined && entry <= last) {
      const [from, to] = [levelBefore(scheduler, last + 1), levelBefore(scheduler, entry)];
      x = noisedAgain(x, from, to, streams.fillNormal(drawn));
      // A solver with a history begins anew.
      scheduler = startedScheduler(run);
      scheduler.setBeginIndex(entry);
    }
    const input = scheduler.scaleModelInput(x, timestep);
    if (input !== x) checkedSample(input, x.length, `${scheduler.className}.scaleModelInput`, place);
    const unscaled = await predict(input, timestep);
    checkModelOutput(unscaled, input, place);
    const scale = scales?.[entry];
    const predicted = scale ? scaledOutput(unscaled, input, batchSize, scale) : unscaled;
    // A scheduler with a fixed variance has no use for a model's learned one, the second half of the channels.
    const ignoresVariance = predicted.length === 2 * x.length && !scheduler.learnsVariance;
    const output = ignoresVariance ? splitChannels(predicted, batchSize)[0] : predicted;
    if (isNoisy[step]) noise = await steps.noise.take([true], step < lastNoisy ? [true] : []);
    const options = { noise, sample_shape, eta, use_clipped_model_output };
    const { prev_sample } = scheduler.step(output, timestep, x, options);
    x = checkedSample(prev_sample, x.length, `${scheduler.className}.step`, place);
    if (edit && endsStep(scheduler, entry))
      x = withKept(x, edit, levelBefore(scheduler, entry + 1), () => streams.fillNormal(drawn));
    const replaced = await callback?.(step, timestep, { sample: x });
    if (replaced?.sample) x = checkedReplacement(replaced.sample, x.length);
  }
  onProgress?.(1);
  return x;
}

/** x_T: normals of the scheduler's standard deviation. */
export function initialNoise(normals: Float32Array, { init_noise_sigma }: Scheduler): Float32Array {
  return init_noise_sigma === 1 ? normals : normals.map((value) => value * init_noise_sigma);
}

/** Whether the evaluation of an entry is the last of its step. */
function endsStep({ stepStarts, timesteps }: Scheduler, entry: number): boolean {
  return entry + 1 === timesteps.length || stepStarts.includes(entry + 1);
}

function checkedReplacement(sample: unknown, length: number): Float32Array {
  if (sample instanceof Float32Array && sample.length === length && allFinite(sample)) return sample;
  throw new InvalidArgumentError(
    `callback_on_step_end must return a sample that is a Float32Array of ${length} finite values, as the one it was given`,
  );
}
