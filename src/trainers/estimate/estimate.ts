import { machineMemory } from '#platform/system';
import { cardMemory } from '#runtime/devices';
import { usesTf32 } from '#runtime/tf32';
import { cores } from '#threads/scripts';
import { InvalidArgumentError } from '../../errors.ts';
import { graphCost } from '../../graph/cost.ts';
import { elementCount } from '../../graph/types.ts';
import type { DiffusionModel } from '../../models/model.ts';
import { nchw } from '../../nn/layout.ts';
import { type Fields, parseOptions } from '../../options.ts';
import { type ConcreteDevice, type DeviceReport, deviceOptions, isCuda } from '../../runtime/device.ts';
import { asScheduler, type GivenScheduler } from '../../schedulers/registry.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import * as z from '../../zod.ts';
import type { BatchStream } from '../data/batch-stream.ts';
import { buildLossGraph } from '../step/loss-graph.ts';
import { type StepSchedule, type StepSettings, stepSchedule, stepSettings } from '../step/settings.ts';
import type { TrainerOptions } from '../trainer-options.ts';
import type { ResolvedTrainingArguments } from '../training-arguments.ts';
import { type StepCost, stepCosts } from './step-cost.ts';
import { timeForward, timeSteps } from './timing.ts';

/** What {@link Trainer.estimate} is asked. */
export interface EstimateOptions {
  /** The batch sizes to list, integers of at least 1. Default: powers of two from 1 to 512, and that of the run. */
  readonly batch_sizes?: readonly number[] | undefined;
  /**
   * Bytes that a batch has to fit into, above 0. Default: on the cpu nine tenths of the memory of the machine or its container;
   * on cuda that of the card, by nvidia-smi; on webgpu unknown, and `fits` is absent.
   */
  readonly memory_bytes?: number | undefined;
  /** About how long real steps are taken, in seconds, from 0 to 600; 0: none are. Default 10. */
  readonly measure_seconds?: number | undefined;
  /** Samples to be drawn with the trained model, an integer of at least 1. Default: 64 images, or 10,000 points. */
  readonly num_samples?: number | undefined;
  /** The scheduler that they are drawn with: its name, its config, or itself. Default: that of the run. */
  readonly scheduler?: GivenScheduler | undefined;
  /** Steps of drawing, an integer of at least 1. Default: as many as are usual for the scheduler. */
  readonly num_inference_steps?: number | undefined;
}

const count = z.int().check(z.gte(1));
const optionsSchema = z.strictObject({
  batch_sizes: z.optional(z.readonly(z.array(count).check(z.minLength(1)))),
  memory_bytes: z.optional(z.number().check(z.positive())),
  measure_seconds: z._default(z.number().check(z.gte(0), z.lte(600)), 10),
  num_samples: z.optional(count),
  scheduler: z.optional(z.custom<GivenScheduler>((value) => typeof value === 'string' || typeof value === 'object')),
  num_inference_steps: z.optional(count),
} satisfies Fields<EstimateOptions>);

/** What a batch size would take. */
export interface BatchEstimate {
  /** Samples of a batch. */
  readonly batch_size: number;
  /** The most memory in bytes: of the process on the cpu, of the card on a GPU. */
  readonly memory_bytes: number;
  /** Whether that is there; absent where it is not known how much there is. */
  readonly fits?: boolean | undefined;
  /** Seconds of a step, all its batches included. */
  readonly step_seconds: number;
  /** Training samples a second. */
  readonly samples_per_second: number;
}

/** How long a training will take, and how much memory. */
export interface TrainingEstimate {
  /** Where it would run. */
  readonly device: DeviceReport['device'];
  /** Numbers that are trained. */
  readonly parameters: number;
  /** Steps of the whole run. */
  readonly max_steps: number;
  /** Steps of a pass over the training samples. */
  readonly steps_per_epoch: number;
  /** Floating-point operations of the products and convolutions of a step. */
  readonly flops_per_step: number;
  /** The run as its arguments say. */
  readonly run: BatchEstimate;
  /** Seconds of the whole run, without what is read before its first step. */
  readonly training_seconds: number;
  /**
   * The steps that were taken to find this out. Absent where none were; then `run` goes by what other machines reached.
   */
  readonly measured?:
    | {
        /** Samples of a step. */
        readonly batch_size: number;
        /** Steps. */
        readonly steps: number;
      }
    | undefined;
  /** The memory that there is, in bytes; absent where it is not known. */
  readonly available_bytes?: number | undefined;
  /** The other batch sizes, rising. */
  readonly batches: readonly BatchEstimate[];
  /** Drawing with the trained model. */
  readonly sampling: {
    /** How many samples. */
    readonly num_samples: number;
    /** The class of the scheduler. */
    readonly scheduler: string;
    /** How often the model is evaluated for each. */
    readonly evaluations: number;
    /** Seconds for all of them. */
    readonly seconds: number;
  };
}

/** A trainer whose run has not begun. */
interface Planned {
  readonly options: TrainerOptions;
  readonly args: ResolvedTrainingArguments;
  readonly batches: BatchStream;
  readonly maxSteps: number;
  /** @throws {DeviceError} when the device of the arguments cannot be used. */
  readonly resolveDevice: () => Promise<ConcreteDevice>;
}

/** The same, with what its steps compute. */
interface PlannedRun {
  readonly settings: StepSettings;
  readonly model: DiffusionModel;
  readonly scheduler: Scheduler;
  readonly batches: BatchStream;
  readonly schedule: StepSchedule;
  readonly maxSteps: number;
  readonly loggingSteps: number;
  /** Whether cuda multiplies in TF32. */
  readonly tf32: boolean;
}

/**
 * Floating-point operations a second that were reached where nothing is measured: by the cpu on each core, in training and in
 * drawing; by an H200; by webgpu on the same card. See docs/how-long.md.
 */
const RATES = {
  core: { training: 40e9, drawing: 120e9 },
  cuda: { float32: 26e12, tf32: 68e12, float16: 86e12 },
  webgpu: 5.2e12,
};
/** A GPU waits for its next command at least so long in each node. */
const NODE_SECONDS = 5e-6;
/** The most that runs of a Loop take at once. */
const MOST_STEPS_PER_RUN = 100;
const MAX_DATA_BYTES = 2 ** 30;
const SAFE_SHARE = 0.9;
const SAMPLES = { points: { all: 10_000, batch: 1000 }, images: { all: 64, batch: 16 } };

/**
 * See `Trainer.estimate`.
 *
 * @throws {InvalidArgumentError} when an option is wrong, the scheduler unknown, or the engine 'tfjs'.
 * @throws {DeviceError} when the device cannot be used.
 */
export async function estimateRun(
  { options: own, args, batches, maxSteps, resolveDevice }: Planned,
  given: EstimateOptions,
): Promise<TrainingEstimate> {
  const options = parseOptions(optionsSchema, given, 'options of estimate()');
  if (own.tf) throw new InvalidArgumentError("estimate() is for the engine 'onnxruntime', not for 'tfjs'");
  const { device: named } = args;
  const needsDevice = options.measure_seconds > 0 || named === 'auto' || named === 'gpu';
  const lossScalars = Object.fromEntries(
    (own.changeable_scalars ?? []).map((name) => [name, own.loss.scalars[name]?.value ?? 0]),
  );
  const run = {
    settings: stepSettings(own, args),
    model: own.model,
    scheduler: own.noise_scheduler,
    batches,
    // The weights stay where they begin: what is measured cannot diverge.
    schedule: stepSchedule(args, maxSteps, { learningRate: 0, lossScalars }),
    maxSteps,
    loggingSteps: args.logging_steps,
    tf32: args.tf32 ?? usesTf32(),
  };
  return estimateOn(needsDevice ? await resolveDevice() : named, run, options);
}

async function estimateOn(
  device: ConcreteDevice,
  run: PlannedRun,
  options: z.output<typeof optionsSchema>,
): Promise<TrainingEstimate> {
  const { settings, batches, maxSteps } = run;
  const { batchSize: own } = settings;
  const { sampleShape } = batches.samples;
  const usual = SAMPLES[sampleShape.length === 1 ? 'points' : 'images'];
  const { num_samples = usual.all, measure_seconds } = options;
  const scheduler = asScheduler(options.scheduler ?? run.scheduler, run.scheduler).clone();
  scheduler.setTimesteps(options.num_inference_steps ?? scheduler.usualSteps);
  const costAt = stepCosts(settings, {
    device,
    stepsPerRun: Math.min(MOST_STEPS_PER_RUN, run.loggingSteps, maxSteps),
    dataBytes: Math.min(MAX_DATA_BYTES, batches.samples.count * elementCount(sampleShape)),
  });
  const available_bytes = options.memory_bytes ?? (await memoryOf(device));
  const fits = ({ memoryBytes }: StepCost) => available_bytes === undefined || memoryBytes <= available_bytes;
  const guess = ({ flops, nodes }: Pick<StepCost, 'flops' | 'nodes'>, work: 'training' | 'drawing') => {
    const seconds = flops / rateOf(run, device, work);
    return device === 'cpu' ? seconds : Math.max(seconds, nodes * NODE_SECONDS);
  };

  const batch_size = measurable(own, (size) => {
    const cost = costAt(size);
    return fits(cost) && 4 * guess(cost, 'training') <= measure_seconds;
  });
  const isMeasured = measure_seconds > 0 && fits(costAt(batch_size));
  const timing = isMeasured
    ? await timeSteps({ ...settings, batchSize: batch_size }, device, batches, run.schedule, 0.8 * measure_seconds)
    : undefined;
  /** How much slower this machine is than the table says. */
  const slowness = timing ? timing.seconds / guess(costAt(batch_size), 'training') : 1;
  const at = (size: number): BatchEstimate => {
    const cost = costAt(size);
    const step_seconds = slowness * guess(cost, 'training');
    return {
      batch_size: size,
      memory_bytes: Math.round(cost.memoryBytes),
      fits: available_bytes === undefined ? undefined : fits(cost),
      step_seconds,
      samples_per_second: (size * settings.accumulationSteps) / step_seconds,
    };
  };

  const drawn = Math.min(usual.batch, num_samples);
  const forwardGraph = buildLossGraph({ ...settings, batchSize: drawn }, nchw).graph;
  const forward = isMeasured
    ? (await timeForward(run.model, device, drawn, 0.2 * measure_seconds)).seconds
    : guess(graphCost(forwardGraph), 'drawing');
  const evaluations = scheduler.timesteps.length;
  const sizes = options.batch_sizes ?? Array.from({ length: 10 }, (_, power) => 2 ** power);
  const ofRun = at(own);
  return {
    device: deviceOptions(device).device,
    parameters: settings.objective.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    max_steps: maxSteps,
    steps_per_epoch: batches.stepsPerEpoch,
    flops_per_step: costAt(own).flops,
    run: ofRun,
    training_seconds: maxSteps * ofRun.step_seconds,
    measured: timing && { batch_size, steps: timing.runs },
    available_bytes,
    batches: [...new Set([...sizes, own])].sort((a, b) => a - b).map(at),
    sampling: {
      num_samples,
      scheduler: scheduler.className,
      evaluations,
      seconds: (evaluations * forward * num_samples) / drawn,
    },
  };
}

/** Bytes that a run may take; undefined where that is not known. */
async function memoryOf(device: ConcreteDevice): Promise<number | undefined> {
  if (isCuda(device)) return cardMemory();
  const machine = device === 'cpu' ? machineMemory() : undefined;
  return machine && SAFE_SHARE * machine;
}

/** The batch size, halved until a step of it is acceptable; at least 1. */
function measurable(batchSize: number, isAcceptable: (size: number) => boolean): number {
  return batchSize === 1 || isAcceptable(batchSize) ? batchSize : measurable(batchSize >> 1, isAcceptable);
}

function rateOf({ settings, tf32 }: PlannedRun, device: ConcreteDevice, work: 'training' | 'drawing'): number {
  if (device === 'cpu') return cores() * RATES.core[work];
  if (!isCuda(device)) return RATES.webgpu;
  if (settings.computeDtype === 'float16') return RATES.cuda.float16;
  return tf32 ? RATES.cuda.tf32 : RATES.cuda.float32;
}
