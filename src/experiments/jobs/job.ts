import os from 'node:os';
import path from 'node:path';
import { ConfigError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { readJsonFile, stringifySorted } from '../../files/json.ts';
import { packageVersion } from '../../files/package-files.ts';
import { DEVICES } from '../../runtime/device.ts';
import * as z from '../../zod.ts';

const count = z.int().check(z.gte(1));
const seed = z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER));
const lambda = z.number().check(z.gte(0), z.refine(Number.isFinite));
const finite = z.number().check(z.refine(Number.isFinite));

/** U-Nets for images: presets of `unet2DPreset`, and one small enough for a CPU. */
export const IMAGE_MODELS = ['tiny', 'small', 'ddpm-cifar10', 'ddpm-64', 'default'] as const;

/** One training run on points, with its sampling and its measurements. */
const pointJobSchema = z.strictObject({
  kind: z.literal('points'),
  /** For `loadPoints`. */
  dataset: z.string().check(z.minLength(1)),
  lambda,
  seed,
  /** Real points, and as many generated ones; null: all points of a file. */
  points: z.nullable(count),
  epochs: count,
  batch_size: count,
  learning_rate: z.number().check(z.positive()),
  hidden_features: count,
  num_train_timesteps: count,
  num_inference_steps: count,
  nearest_k: count,
  device: z.enum(DEVICES),
});
export type PointJob = z.output<typeof pointJobSchema>;

/** One training run of the U-Net on images, with its sampling and its measurements. */
const imageJobSchema = z.strictObject({
  kind: z.literal('images'),
  /** What reports and the paper's figures call the set. */
  name: z.string().check(z.regex(/^[\w.-]+$/)),
  /** For `loadImages`. */
  source: z.string().check(z.minLength(1)),
  /** The folder of an Oxford set's archive; null where it is downloaded or not one of them. */
  data_dir: z.nullable(z.string()),
  resolution: count,
  model: z.enum(IMAGE_MODELS),
  lambda,
  seed,
  epochs: count,
  batch_size: count,
  learning_rate: z.number().check(z.positive()),
  random_flip: z.boolean(),
  num_train_timesteps: count,
  num_inference_steps: count,
  /** Generated images; null: as many as real ones. */
  samples: z.nullable(count),
  nearest_k: count,
  extractor: z.string().check(z.minLength(1)),
  /** Gives the class logits of the Inception Score; null: the score is not computed. */
  logits_extractor: z.nullable(z.string().check(z.minLength(1))),
  is_splits: count,
  device: z.enum(DEVICES),
});
export type ImageJob = z.output<typeof imageJobSchema>;

export const trainingJobSchema = z.discriminatedUnion('kind', [pointJobSchema, imageJobSchema]);
export type TrainingJob = PointJob | ImageJob;

/** Draws from the model of a training job with its predicted noise scaled, and measures as that job does. */
const drawJobSchema = z.strictObject({
  kind: z.literal('draw'),
  model: trainingJobSchema,
  /** The factor, or the weight of the penalty that it follows from. */
  scaling: z.union([
    z.strictObject({ iso_lambda: lambda }),
    z.strictObject({ noise_scale: z.number().check(z.positive(), z.refine(Number.isFinite)) }),
  ]),
});
export type DrawJob = z.output<typeof drawJobSchema>;

/** Compares the predicted noise of two models of the same set and seed, timestep by timestep. */
const compareJobSchema = z.strictObject({
  kind: z.literal('compare'),
  model: trainingJobSchema,
  base: trainingJobSchema,
});
export type CompareJob = z.output<typeof compareJobSchema>;

const jobSchema = z.discriminatedUnion('kind', [pointJobSchema, imageJobSchema, drawJobSchema, compareJobSchema]);
export type Job = TrainingJob | DrawJob | CompareJob;

/** Settings of all jobs on points of one reproduction. */
export type PointSettings = Omit<PointJob, 'kind' | 'dataset' | 'lambda' | 'seed'>;
/** Settings of all jobs on images of one reproduction. */
export type ImageSettings = Omit<ImageJob, 'kind' | 'name' | 'source' | 'data_dir' | 'lambda' | 'seed'>;

/** A set of images to train on. */
export interface NamedImageSet {
  /** For reports. Sets with the paper's names are shown next to the paper's figures. */
  readonly name: string;
  /** For `loadImages`. */
  readonly source: string;
  /** The folder of an Oxford set's archive, else null. */
  readonly data_dir: string | null;
}

const timingSchema = z.strictObject({
  wall_seconds: z.number().check(z.gte(0)),
  cpu_seconds: z.number().check(z.gte(0)),
});
/** The time of all attempts at a job. Other processes lengthen only the wall time. */
type JobTiming = z.output<typeof timingSchema>;

/** What a run logged: the steps, and the values of each name at them. A value is the mean since the last entry. */
export const curveSchema = z.catchall(z.object({ step: z.array(z.int()) }), z.array(finite));
export type TrainingCurve = z.output<typeof curveSchema>;

const environmentSchema = z.strictObject({
  package_version: z.string(),
  node: z.string(),
  platform: z.string(),
  cpu: z.string(),
});

/** What every result holds. */
const commonResult = { timing: timingSchema, environment: environmentSchema };
export type CommonResult = z.output<z.ZodMiniObject<typeof commonResult>>;
const trainingResult = { training: curveSchema, ...commonResult };
export type TrainingResult = z.output<z.ZodMiniObject<typeof trainingResult>>;

const pointMetricsSchema = z.strictObject({ precision: finite, recall: finite, density: finite, coverage: finite });
const pointResultSchema = z.strictObject({
  job: pointJobSchema,
  metrics: pointMetricsSchema,
  predicted_noise: z.array(z.strictObject({ timestep: z.int(), per_element: finite, mse: finite })),
  ...trainingResult,
});
export type PointResult = z.output<typeof pointResultSchema>;
export type PointMeasured = Omit<PointResult, keyof TrainingResult>;

/** What the metrics must not be taken for, one sentence each. */
const warningsSchema = z._default(z.array(z.string()), []);
const extractorSchema = z.strictObject({ name: z.string(), checksum: z.string() });
export const imageMetricsSchema = z.strictObject({
  fid: finite,
  inception_score: z.nullable(finite),
  precision: finite,
  recall: finite,
  density: finite,
  coverage: finite,
});
const imageResultSchema = z.strictObject({
  job: imageJobSchema,
  real_images: count,
  generated_images: count,
  extractor: extractorSchema,
  logits_extractor: z.nullable(extractorSchema),
  metrics: imageMetricsSchema,
  warnings: warningsSchema,
  ...trainingResult,
});
export type ImageResult = z.output<typeof imageResultSchema>;
export type ImageMeasured = Omit<ImageResult, keyof TrainingResult>;

const drawResultSchema = z.strictObject({
  job: drawJobSchema,
  /** The factor of the predicted noise. */
  noise_scale: finite,
  /** The model's own isotropy, as its folder says. */
  isotropy: z.nullable(finite),
  metrics: z.union([pointMetricsSchema, imageMetricsSchema]),
  warnings: warningsSchema,
  ...commonResult,
});
export type DrawResult = z.output<typeof drawResultSchema>;

const compareResultSchema = z.strictObject({
  job: compareJobSchema,
  /** Of both models, as their folders say. */
  isotropy: z.strictObject({ model: z.nullable(finite), base: z.nullable(finite) }),
  ratios: z.array(z.strictObject({ timestep: z.int(), ratio: finite, correlation: finite })),
  ...commonResult,
});
export type CompareResult = z.output<typeof compareResultSchema>;

const resultSchema = z.union([pointResultSchema, imageResultSchema, drawResultSchema, compareResultSchema]);
export type JobResult = PointResult | ImageResult | DrawResult | CompareResult;
export type TrainedResult = PointResult | ImageResult;

/** A result with the folder its files are in. */
export interface Stored<Result extends JobResult = JobResult> {
  readonly result: Result;
  readonly folder: string;
}

const JOB_FILE = 'job.json';
export const RESULT_FILE = 'result.json';
/** The generated points in the model's units, [points, 2]. */
export const GENERATED_FILE = 'generated.npy';
/** Some of the generated images, side by side. */
export const GRID_FILE = 'grid.png';
const TIMING_FILE = 'timing.json';

/** The name of a job's folder, unique within one output folder. */
export function jobName(job: Job): string {
  switch (job.kind) {
    case 'points':
    case 'images':
      return `${setName(job)}-lambda-${job.lambda}-seed-${job.seed}`;
    case 'draw': {
      const [[option, value] = ['', 0]] = Object.entries(job.scaling);
      return `${jobName(job.model)}-drawn-with-${option.replace('_', '-')}-${value}`;
    }
    case 'compare':
      return `${jobName(job.model)}-over-lambda-${job.base.lambda}`;
  }
}

/** What folders and reports call a job's set. */
export function setName(job: TrainingJob): string {
  return job.kind === 'images' ? job.name : nameOfSource(job.dataset);
}

/** A set's name that can be part of a folder's: of a file its name without the ending. */
export function nameOfSource(source: string): string {
  return path.parse(source).name.replace(/[^\w.-]+/g, '-');
}

/** Whether a job trains; others need the models of such jobs in the same output folder. */
export function isTraining(job: Job): job is TrainingJob {
  return job.kind === 'points' || job.kind === 'images';
}

/** Whether a result is that of a training job. */
export function isTrained(result: JobResult): result is TrainedResult {
  return isTraining(result.job);
}

/** The folder of the trained pipeline, in that of a finished training job. */
export function pipelineFolder(jobFolder: string): string {
  return path.join(jobFolder, 'pipeline');
}

/** The seed of the samples differs from that of the training. */
export function samplingSeed({ seed }: TrainingJob): number {
  return 1000 + seed;
}

const ANALYSED_TIMESTEPS = 21;

/** Timesteps at which a job's model is analysed: from 0 to T - 1, evenly spaced. */
export function analysedTimesteps({ num_train_timesteps: T }: TrainingJob): number[] {
  const count = Math.min(ANALYSED_TIMESTEPS, T);
  return Array.from({ length: count }, (_, i) => Math.round((i * (T - 1)) / (count - 1 || 1)));
}

/** The settings of a job, or undefined where there is none. @throws {ConfigError} when the file is damaged. */
export function readJob(folder: string): Promise<Job | undefined> {
  return unlessMissing(path.join(folder, JOB_FILE), jobSchema);
}

export function writeJob(folder: string, job: Job): Promise<void> {
  return writeFileAtomic(path.join(folder, JOB_FILE), stringifySorted(job));
}

/** The result of a finished job, else undefined. @throws {ConfigError} when it is damaged. */
export function readResult(folder: string): Promise<JobResult | undefined> {
  return unlessMissing(path.join(folder, RESULT_FILE), resultSchema);
}

/** Written last: a folder with this file is complete. */
export function writeResult(folder: string, result: JobResult): Promise<void> {
  return writeFileAtomic(path.join(folder, RESULT_FILE), stringifySorted(result));
}

async function unlessMissing<T>(file: string, schema: z.ZodMiniType<T>): Promise<T | undefined> {
  try {
    return await readJsonFile(file, schema);
  } catch (error) {
    if (error instanceof ConfigError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
      return undefined;
    throw error;
  }
}

/** How a job is stopped and reports its progress. */
export interface JobContext {
  /** When it aborts, the job saves its state and rejects with the reason. */
  readonly signal: AbortSignal;
  /** @param fraction of the job that is done, 0 to 1. */
  onProgress(fraction: number): void;
}

/** Measures the processor time of this process and the wall time, summed over all attempts at a job. */
export class JobClock {
  private readonly wallStart = performance.now();
  private readonly cpuStart = process.cpuUsage();

  private constructor(
    private readonly folder: string,
    private readonly before: JobTiming,
  ) {}

  /** Starts with the time that earlier attempts saved. */
  static async start(folder: string): Promise<JobClock> {
    const saved = await unlessMissing(path.join(folder, TIMING_FILE), timingSchema);
    return new JobClock(folder, saved ?? { wall_seconds: 0, cpu_seconds: 0 });
  }

  elapsed(): JobTiming {
    const { user, system } = process.cpuUsage(this.cpuStart);
    return {
      wall_seconds: this.before.wall_seconds + (performance.now() - this.wallStart) / 1000,
      cpu_seconds: this.before.cpu_seconds + (user + system) / 1e6,
    };
  }

  /** Saves the time so far for a later attempt. */
  save(): Promise<void> {
    return writeFileAtomic(path.join(this.folder, TIMING_FILE), stringifySorted(this.elapsed()));
  }
}

/** Where a result was computed. */
export function environment() {
  return {
    package_version: packageVersion(),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: os.cpus()[0]?.model ?? 'unknown',
  };
}
