import * as path from '#platform/path';
import { isColumnName, NAME_RULE } from '../datasets/points/columns.ts';
import { applyScaler, invertScaler, type Scaler } from '../datasets/points/points.ts';
import { ConfigError, InvalidArgumentError } from '../errors.ts';
import { readJsonFile } from '../files/json.ts';
import { isFile } from '../files/regular-file.ts';
import { pipelineFiles } from '../hub/pipeline-folder.ts';
import type { PipelineSource } from '../hub/pipeline-source.ts';
import type { TrainedIsotropy } from '../losses/minimiser.ts';
import { type Fields, numberOption, parseOptions, warnOnce } from '../options.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import * as z from '../zod.ts';
import { type InversionOptions, inversionCall, inversionSchema, invertedFrom } from './editing/inversion.ts';
import {
  type InterpolationEnd,
  interpolation,
  type LatentOptions,
  latentShape,
  noiseStreams,
  readLatents,
  startNoise,
} from './editing/latents.ts';
import {
  checkPoints,
  type PointEditOptions,
  type PointInput,
  pointEditShape,
  readPointEdit,
  readPoints,
} from './editing/point-input.ts';
import { DenoisingLoop } from './fused/loop.ts';
import {
  checkPipelineArguments,
  type LoadedPipeline,
  loadFolder,
  type PipelineOptions,
  withLocalModel,
} from './load.ts';
import type { ModelSession } from './model-session.ts';
import { type SamplingRun, sample } from './sample.ts';
import { checkCount, readSamplingOptions, type SamplingOptions, samplingShape } from './sampling-options.ts';

/** Options of `pipeline('unconditional-point-generation', ...)`. */
export interface PointPipelineOptions extends PipelineOptions {}

export interface PointGenerationOptions extends SamplingOptions, LatentOptions, PointEditOptions {
  /** Points to draw, 1 to 2^28; default 1. */
  readonly batch_size?: number | undefined;
  /** 'points' (default): in the units of the training data; 'scaled': in the model's units. */
  readonly output_type?: 'points' | 'scaled' | undefined;
  /** Whether the noise that the points were drawn from is returned too, as `latents`; default false. */
  readonly return_latents?: boolean | undefined;
}

/** Options of `interpolate`: those of a call that do not say where it starts. */
export type PointInterpolationOptions = Omit<
  PointGenerationOptions,
  'batch_size' | 'latents' | 'return_latents' | keyof PointEditOptions
> & {
  /** Seed of later steps' noise for an end that is given by its latents, an integer >= 0; default 0. */
  readonly seed?: number | undefined;
};

/** Points that were drawn. */
export interface PointGenerationOutput {
  /** Row-major [batch_size, d]. */
  readonly points: Float32Array;
  /** The shape of `points`. */
  readonly dims: [batch_size: number, d: number];
}

/** With `return_latents`. */
export interface PointsWithLatents extends PointGenerationOutput {
  /** The noise that the points were drawn from, row-major [batch_size, d], before the scheduler scales it. */
  readonly latents: Float32Array;
}

/**
 * Draws points from a diffusion model: noise from one random stream a point, then the scheduler's reverse process.
 * Options are read when it is called: what the caller changes later has no effect.
 *
 * @throws {InvalidArgumentError} when an option is wrong or unknown.
 * @throws {NonFiniteSampleError} when the model or the scheduler gives NaN or infinity, with the step.
 * @throws {DisposedError} after `dispose()`.
 * @throws `signal.reason` when the signal aborts.
 * @example
 * const generate = await pipeline('unconditional-point-generation', './runs/swiss-roll/pipeline');
 * const { points, dims } = await generate({ batch_size: 1000, scheduler: 'dpm++-karras', num_inference_steps: 20 });
 * await generate.dispose();
 */
export interface UnconditionalPointGenerationPipeline {
  (options: PointGenerationOptions & { readonly return_latents: true }): Promise<PointsWithLatents>;
  (options?: PointGenerationOptions): Promise<PointGenerationOutput>;
  /** The name of the task. */
  readonly task: 'unconditional-point-generation';
  /** The model, which can be asked for its output at a timestep. */
  readonly model: ModelSession;
  /** How the training data was scaled; `output_type: 'points'` undoes it. */
  readonly scaler: Scaler;
  /** The names of the training data's columns, one a dimension; undefined where they had none. */
  readonly columns: readonly string[] | undefined;
  /** May be replaced, as in diffusers; calls under way keep the one they began with. */
  scheduler: Scheduler;
  /** What is known of the model's isotropy, for `iso_lambda`; may be replaced. Undefined where the folder has none. */
  isotropy: TrainedIsotropy | undefined;
  /**
   * Draws `count` points, 2 or more, from noise at even distances between two ends: a seed, or the latents of one point. The
   * first and the last are the points of the ends, bit for bit.
   */
  interpolate(
    from: InterpolationEnd,
    to: InterpolationEnd,
    count: number,
    options?: PointInterpolationOptions,
  ): Promise<PointGenerationOutput>;
  /**
   * The latents, [count, d], from which DDIM without clipping draws these points again, the more nearly the more steps it
   * takes (Song et al. 2021).
   *
   * @param points row-major [count, d], in the units of the training data.
   */
  invert(points: PointInput, options?: InversionOptions): Promise<Float32Array>;
  /**
   * Frees the sessions. A second call does nothing. A call under way, and every later one, rejects with `DisposedError`.
   */
  dispose(): Promise<void>;
}

const drawingShape = {
  ...samplingShape,
  output_type: z.optional(z.custom<'points' | 'scaled'>((value) => typeof value === 'string', 'must be a text')),
};
const generationSchema = z.strictObject({
  ...drawingShape,
  ...latentShape,
  ...pointEditShape,
  batch_size: z.optional(numberOption),
  return_latents: z.optional(z.boolean()),
} satisfies Fields<PointGenerationOptions>);
const interpolationSchema = z.strictObject({
  ...drawingShape,
  seed: z.optional(numberOption),
} satisfies Fields<PointInterpolationOptions>);

const finite = z.number().check(z.refine(Number.isFinite));
const scalerSchema = z.object({
  kind: z.enum(['min-max', 'standardise', 'none']),
  offset: z.array(finite).check(z.maxLength(8192)),
  scale: z.array(finite.check(z.refine((scale) => scale !== 0, 'a scale must not be 0'))).check(z.maxLength(8192)),
  columns: z.optional(z.array(z.string().check(z.refine(isColumnName, NAME_RULE))).check(z.maxLength(8192))),
});

/** Loads a saved pipeline folder; see `pipeline`. */
export async function loadUnconditionalPointGeneration(
  source: string | PipelineSource | null | undefined,
  given: PointPipelineOptions = {},
): Promise<UnconditionalPointGenerationPipeline> {
  const options = checkPipelineArguments(source, given);
  return withLocalModel(source, options, 'points', (name) => loadPointFolder(name, options));
}

async function loadPointFolder(
  name: string | null | undefined,
  options: PipelineOptions,
): Promise<UnconditionalPointGenerationPipeline> {
  const loaded = await loadFolder(name, options, 'points');
  const { model, dir = '', onnx, dtype } = loaded;
  const [dims = 0] = model.sampleShape;
  try {
    const { columns, ...scaler } = await readScaler(dir, dims);
    return pointPipeline(loaded, await DenoisingLoop.of(onnx, model, dtype), { scaler, columns });
  } catch (error) {
    await model.release();
    throw error;
  }
}

function pointPipeline(
  { model, scheduler, isotropy }: Pick<LoadedPipeline, 'model' | 'scheduler' | 'isotropy'>,
  loop: DenoisingLoop | undefined,
  { scaler, columns }: Pick<UnconditionalPointGenerationPipeline, 'scaler' | 'columns'>,
): UnconditionalPointGenerationPipeline {
  const [dims = 0] = model.sampleShape;
  const draw = async (run: SamplingRun, output_type: 'points' | 'scaled'): Promise<PointGenerationOutput> => {
    const scaled = await (async () => (await loop?.tryRun(run)) ?? (await sample(model, run)))().catch((error) => {
      // A worker thread that was ended by dispose() says only that it ended.
      model.checkUsable();
      throw error;
    });
    const points = output_type === 'points' ? invertScaler(scaler, scaled, dims) : scaled;
    return { points, dims: [run.batchSize, dims] };
  };
  const toModel = (points: Float64Array) => applyScaler(scaler, points, dims);

  const generate = async (given: PointGenerationOptions = {}) => {
    model.checkUsable();
    const options = parseOptions(generationSchema, given, 'options for the generation of points');
    const { batch_size: batchSize = 1, output_type = 'points', latents, return_latents } = options;
    checkCount('batch_size', batchSize);
    checkOutputType(output_type);
    const run = {
      ...readSamplingOptions(options, self, batchSize, 'point'),
      batchSize,
      latents: latents && readLatents(latents, batchSize, model.sampleShape),
      edit: readPointEdit(
        options,
        batchSize,
        dims,
        output_type === 'points' ? toModel : (values) => Float32Array.from(values),
      ),
    };
    const drawn = await draw(run, output_type);
    return return_latents ? { ...drawn, latents: startNoise(run, noiseStreams(run, batchSize, dims)) } : drawn;
  };
  const interpolate = async (
    from: InterpolationEnd,
    to: InterpolationEnd,
    count: number,
    given: PointInterpolationOptions = {},
  ) => {
    model.checkUsable();
    const options = parseOptions(interpolationSchema, given, 'options for the interpolation of points');
    const { output_type = 'points', seed = 0 } = options;
    checkOutputType(output_type);
    const call = readSamplingOptions(options, self, count, 'point');
    return draw({ ...call, ...interpolation(from, to, count, seed, model.sampleShape), batchSize: count }, output_type);
  };
  const invert = async (points: PointInput, given: InversionOptions = {}) => {
    model.checkUsable();
    checkPoints(points);
    const options = parseOptions(inversionSchema, given, 'options for the inversion of points');
    const edit = invertedFrom(toModel(readPoints(points, dims)));
    const batchSize = edit.samples.length / dims;
    return sample(model, { ...inversionCall(options, self), edit, batchSize });
  };
  const self = Object.assign(generate, {
    task: 'unconditional-point-generation' as const,
    model,
    scaler,
    columns,
    scheduler,
    isotropy,
    interpolate,
    invert,
    dispose: async () => {
      await model.release();
      await loop?.release();
    },
  }) as UnconditionalPointGenerationPipeline;
  return self;
}

function checkOutputType(output_type: string): asserts output_type is 'points' | 'scaled' {
  if (output_type !== 'points' && output_type !== 'scaled')
    throw new InvalidArgumentError(`output_type '${output_type}' is unknown: use 'points' or 'scaled'`);
}

/**
 * How the training data was scaled, and the names of its columns. The points of a folder that holds a model alone stay in
 * the units of the model.
 */
async function readScaler(dir: string, dims: number): Promise<z.output<typeof scalerSchema>> {
  const file = path.join(dir, pipelineFiles.pointScaler);
  if (!(await isFile(file)) && !(await isFile(path.join(dir, pipelineFiles.modelIndex)))) {
    warnOnce(`there is no ${file}: the points come in the units of the model, as they were scaled for training`);
    return { kind: 'none', offset: Array(dims).fill(0), scale: Array(dims).fill(1) };
  }
  const scaler = await readJsonFile(file, scalerSchema);
  const { offset, scale, columns } = scaler;
  if (columns && columns.length !== dims)
    throw new ConfigError(`${file} names ${columns.length} columns, but the model has points of ${dims} dimensions`);
  if (offset.length === dims && scale.length === dims) return scaler;
  throw new ConfigError(
    `${file} scales ${offset.length} offsets and ${scale.length} scales, but the model has points of ${dims} dimensions`,
  );
}
