import path from 'node:path';
import { z } from 'zod';
import { invertScaler, type Scaler } from '../datasets/points/points.ts';
import { ConfigError, InvalidArgumentError } from '../errors.ts';
import { readJsonFile } from '../files/json.ts';
import { openPretrained, type PretrainedOptions } from '../hub/open-pretrained.ts';
import { modelFromConfig } from '../models/registry.ts';
import type { SampleSeed } from '../random/sample-streams.ts';
import { parseDevice, resolveDevice } from '../runtime/device.ts';
import { type Scheduler, schedulerFromConfig } from '../schedulers/index.ts';
import type { ModelSession } from './model-session.ts';
import { ReverseProcess, type StepCallback } from './reverse-process.ts';
import { type SamplingOptions, samplingSchedule } from './sampling-options.ts';

/** Options of `pipeline('unconditional-point-generation', ...)`, named as transformers.js names them. */
export interface PointPipelineOptions extends PretrainedOptions {
  /** `auto` (default), `cpu`, `webgpu`, `cuda` or `gpu`. */
  readonly device?: string | null | undefined;
  /** Models of points are float32: only 'fp32' (default). */
  readonly dtype?: string | null | undefined;
  /** Whether to take the averaged weights, `unet_ema`; default true where the folder has them. */
  readonly ema?: boolean | undefined;
}

export interface PointGenerationOptions extends SamplingOptions {
  /** Points to draw, 1 or more; default 1. */
  readonly batch_size?: number | undefined;
  /**
   * An integer >= 0, default 0, or one for each point. Point i depends on the seed and on i alone: it is the same
   * with every `batch_size`. With a list, point i is what `seed: list[i]` with a `batch_size` of 1 draws.
   */
  readonly seed?: SampleSeed | undefined;
  /** Called after every step; may return `{ sample }` to go on with. Makes sampling run step by step. */
  readonly callback_on_step_end?: StepCallback | undefined;
  /** `points` (default): in the units of the training data; `scaled`: in the model's units. */
  readonly output_type?: 'points' | 'scaled' | undefined;
}

export interface PointGenerationOutput {
  /** Row-major [batch_size, d]. */
  readonly points: Float32Array;
  readonly dims: [batch_size: number, d: number];
}

/**
 * Draws points from a diffusion model: noise from one random stream a point, then the scheduler's reverse process.
 *
 * @throws {InvalidArgumentError} when an option is out of range.
 * @throws `signal.reason` when the signal aborts.
 * @example
 * const generate = await pipeline('unconditional-point-generation', './runs/swiss-roll/pipeline');
 * const { points, dims } = await generate({ batch_size: 1000, num_inference_steps: 50, scheduler: ddim });
 * await generate.dispose();
 */
export interface UnconditionalPointGenerationPipeline {
  (options?: PointGenerationOptions): Promise<PointGenerationOutput>;
  readonly task: 'unconditional-point-generation';
  readonly model: ModelSession;
  /** How the training data was scaled; `output_type: 'points'` undoes it. */
  readonly scaler: Scaler;
  /** May be replaced, as in diffusers. */
  scheduler: Scheduler;
  /** Frees the sessions; the pipeline cannot be used afterwards. */
  dispose(): Promise<void>;
}

const SCALER_FILE = 'point_scaler.json';
const finite = z.number().refine(Number.isFinite);
const scalerSchema = z.object({
  kind: z.enum(['min-max', 'standardise', 'none']),
  offset: z.array(finite).max(8192),
  scale: z.array(finite.refine((scale) => scale !== 0, 'a scale must not be 0')).max(8192),
});
const batchSizeSchema = z
  .int()
  .min(1)
  .max(2 ** 28);

/** Loads a saved pipeline folder; see `pipeline`. */
export async function loadUnconditionalPointGeneration(
  model: string | null | undefined,
  options: PointPipelineOptions = {},
): Promise<UnconditionalPointGenerationPipeline> {
  const wantedDevice = parseDevice(options.device ?? 'auto');
  if ((options.dtype ?? 'fp32') !== 'fp32')
    throw new InvalidArgumentError(`dtype '${options.dtype}': models of points are 'fp32' only`);
  const folder = await openPretrained(model, { ...options, require: ['onnx'] });
  const { config, sampleShape } = describedModel(folder.unetConfig);
  if (sampleShape.length !== 1)
    throw new ConfigError(
      `${folder.dir} holds a ${config._class_name} for samples of shape [${sampleShape.join(', ')}], not for points`,
    );
  const scaler = await readScaler(path.join(folder.dir, SCALER_FILE), sampleShape[0] ?? 0);
  const scheduler = schedulerFromConfig(folder.schedulerConfig);
  const device = await resolveDevice(wantedDevice);
  const { onnx } = (options.ema ?? true) && folder.emaPaths ? folder.emaPaths : folder.paths;
  const process = await ReverseProcess.load(onnx, { ...config }, sampleShape, device);
  return pointPipeline(process, scheduler, scaler);
}

/** A model that came from an ONNX file is described by it; its config only repeats the shape of a sample. */
function describedModel(json: Readonly<Record<string, unknown>>) {
  if (json._class_name !== 'OnnxModel') return modelFromConfig(json);
  const shape = z.array(z.int().min(1)).safeParse(json.sample_shape);
  if (shape.success) return { config: { ...json, _class_name: 'OnnxModel' }, sampleShape: shape.data };
  throw new ConfigError(
    'the config of an OnnxModel needs "sample_shape", the lengths of the axes of a sample',
  );
}

function pointPipeline(
  process: ReverseProcess,
  scheduler: Scheduler,
  scaler: Scaler,
): UnconditionalPointGenerationPipeline {
  const generate = async (options: PointGenerationOptions = {}): Promise<PointGenerationOutput> => {
    const { batch_size = 1, output_type = 'points', seed = 0, callback_on_step_end } = options;
    checkOptions(batch_size, seed, output_type);
    const scaled = await process.run({
      ...samplingSchedule(options, self.scheduler),
      batchSize: batch_size,
      seed,
      eta: options.eta,
      callback: callback_on_step_end,
      onProgress: options.on_progress,
      signal: options.signal,
    });
    const dims = process.model.sampleShape[0] ?? 0;
    const points = output_type === 'points' ? invertScaler(scaler, scaled, dims) : scaled;
    return { points, dims: [batch_size, dims] };
  };
  const self: UnconditionalPointGenerationPipeline = Object.assign(generate, {
    task: 'unconditional-point-generation' as const,
    model: process.model,
    scaler,
    scheduler,
    dispose: () => process.release(),
  });
  return self;
}

function checkOptions(batchSize: number, seed: SampleSeed, outputType: string): void {
  if (!batchSizeSchema.safeParse(batchSize).success)
    throw new InvalidArgumentError(`batch_size is ${batchSize}, but must be an integer from 1 to 2^28`);
  if (typeof seed !== 'number' && seed.length !== batchSize)
    throw new InvalidArgumentError(
      `seed is a list of ${seed.length}, but batch_size is ${batchSize}: give one seed, or one for each point`,
    );
  if (outputType !== 'points' && outputType !== 'scaled')
    throw new InvalidArgumentError(`output_type '${outputType}' is unknown: use 'points' or 'scaled'`);
}

async function readScaler(file: string, dims: number): Promise<Scaler> {
  const scaler = await readJsonFile(file, scalerSchema);
  if (scaler.offset.length === dims && scaler.scale.length === dims) return scaler;
  throw new ConfigError(
    `${file} scales ${scaler.offset.length} offsets and ${scaler.scale.length} scales, but the model has points of ${dims} dimensions`,
  );
}
