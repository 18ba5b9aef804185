import { InvalidArgumentError } from '../errors.ts';
import { type Fields, parseOptions } from '../options.ts';
import { DEVICES, type Device, deviceIdOption } from '../runtime/device.ts';
import * as z from '../zod.ts';
import { OPTIMIZERS, type OptimizerArguments, resolveOptimizer } from './optimizers.ts';
import { LR_SCHEDULERS, parseStepRules } from './schedules.ts';

const finite = z.number().check(z.refine(Number.isFinite, 'must be finite'));
const wholeNumber = z.int().check(z.gte(0));
const fraction = finite.check(z.gte(0), z.lt(1));

/** What `Trainer` is told of a run, by Hugging Face's names. */
export interface TrainingArguments extends OptimizerArguments {
  /** Folder of the checkpoints and logs; it is made where there is none. */
  readonly output_dir: string;
  /** Passes over the training data, at least 1; default 1000. */
  readonly num_train_epochs?: number | undefined;
  /** Optimizer steps, at least 1; it overrides `num_train_epochs`. Default -1: as many as the epochs have. */
  readonly max_steps?: number | undefined;
  /** Samples in a batch, 1 to 1,000,000; default 512. */
  readonly per_device_train_batch_size?: number | undefined;
  /** Batches whose mean gradient makes one step, 1 to 65,536; default 1. */
  readonly gradient_accumulation_steps?: number | undefined;
  /**
   * What the expectation in the isotropy penalty runs over where a step has several batches: 'step' (default), all of
   * them, as one large batch would, for which every batch takes a second forward pass; or 'batch', each by itself, whose
   * penalty is larger on average. Without a penalty it has no effect.
   */
  readonly isotropy_over?: 'step' | 'batch' | undefined;
  /**
   * Keeps only the inputs of the model's blocks, and computes what is inside again in the backward pass; default false.
   * A step takes about a third longer and less memory, and its results are the same to the bit.
   */
  readonly gradient_checkpointing?: boolean | undefined;
  /**
   * accelerate's name: 'fp16' runs the model forward and backward in float16, with the loss scaled by the rule of torch's
   * GradScaler; parameters, moments, averages, norms and losses stay float32. Default 'no'. 'bf16' is refused: onnxruntime
   * lacks kernels for it.
   */
  readonly mixed_precision?: 'no' | 'fp16' | 'bf16' | undefined;
  /** Mirrors half of the images; default false. It does nothing to points. */
  readonly random_flip?: boolean | undefined;
  /**
   * How often a class-conditional model sees a sample without its class, for classifier-free guidance: 0 to below 1;
   * default 0, and 0.1 is usual. The model's last class then stands for "no class".
   */
  readonly class_dropout_prob?: number | undefined;
  /**
   * Offset noise (Guttenberg 2023), by diffusers' name: to the noise of a sample is added this much of a normal number for
   * each channel, so that the model learns to change the brightness of whole images; for points, of one for the whole point.
   * At least 0; default 0, and 0.1 is usual.
   */
  readonly noise_offset?: number | undefined;
  /**
   * Input perturbation (Ning et al. 2023, arXiv 2301.11706), by diffusers' name: a sample is noised with this much more
   * noise than the model is asked for, as its own errors do while it draws. At least 0; default 0, and 0.1 is usual.
   */
  readonly input_perturbation?: number | undefined;
  /**
   * How the learning rate goes on after the warm-up, by diffusers' names: 'constant' (default) or 'constant_with_warmup',
   * which are one here; down to 0 as 'linear', 'cosine' or 'cosine_with_restarts'; down to `lr_end` as 'polynomial'; or
   * 'piecewise_constant' by `lr_step_rules`.
   */
  readonly lr_scheduler_type?: (typeof LR_SCHEDULERS)[number] | undefined;
  /** Steps in which the learning rate rises from 0 to `learning_rate`, at least 0; default 0. */
  readonly warmup_steps?: number | undefined;
  /** Of 'cosine_with_restarts': how often the rate falls to 0, at least 1; default 1. */
  readonly lr_num_cycles?: number | undefined;
  /** Of 'polynomial': the exponent of what is left of the run, above 0; default 1. */
  readonly lr_power?: number | undefined;
  /** Of 'polynomial': the learning rate at the end, 0 to below `learning_rate`; default 1e-7. */
  readonly lr_end?: number | undefined;
  /**
   * Of 'piecewise_constant', which needs it: factors of `learning_rate`, at least 0, with the steps up to which they
   * hold, and the last factor. '1:50,0.1:120,0.01' is 1 up to step 50, 0.1 up to step 120, then 0.01. Default: none.
   */
  readonly lr_step_rules?: string | undefined;
  /** Largest L2 norm of the whole gradient; a larger one is scaled down to it. At least 0; default 0: no clipping. */
  readonly max_grad_norm?: number | undefined;
  /** Keeps an exponential moving average of the weights, saved as `unet_ema`; default false. */
  readonly use_ema?: boolean | undefined;
  /** inv_gamma of diffusers' warm-up, decay = 1 - (1 + step / inv_gamma)^-power; above 0; default 1. */
  readonly ema_inv_gamma?: number | undefined;
  /** power of diffusers' warm-up, above 0; default 0.75. */
  readonly ema_power?: number | undefined;
  /** Largest decay of the moving average, 0 to 1; default 0.9999. */
  readonly ema_max_decay?: number | undefined;
  /** Smallest decay of the moving average once it has begun, 0 to `ema_max_decay`; default 0. */
  readonly ema_min_decay?: number | undefined;
  /** Steps at the end of which the average is the weights themselves, at least 0; default 0. */
  readonly ema_update_after_step?: number | undefined;
  /** Whether the decay follows `ema_inv_gamma` and `ema_power`; false: (1 + step) / (10 + step). Default true. */
  readonly use_ema_warmup?: boolean | undefined;
  /**
   * Seed of the initial weights, the order of the data, noise, timesteps, augmentation and dropout: a whole number from 0;
   * default 0.
   */
  readonly seed?: number | undefined;
  /** Where the steps run; default 'auto': the best device there is, and the cpu for points. */
  readonly device?: Device | undefined;
  /**
   * Which GPU the device `cuda` is, from 0 among those that the process sees (`CUDA_VISIBLE_DEVICES`). Default: 0, and with
   * several ranks on a machine each its own: ranks share a GPU where it is given. Without effect on other devices.
   */
  readonly device_id?: number | undefined;
  /**
   * Whether the device `cuda` multiplies float32 in TF32, with 10 bits of mantissa instead of 23: faster, and less exact.
   * It is set for the whole process, before CUDA is loaded. Default: as the environment says, true unless
   * `NVIDIA_TF32_OVERRIDE` is 0. Without effect on other devices. Checkpoints of cuda record it.
   */
  readonly tf32?: boolean | undefined;
  /** Steps between two lines of the log, at least 1; default 100. */
  readonly logging_steps?: number | undefined;
  /** Steps between two checkpoints, at least 0; default 0: only at the end, and when the run is interrupted. */
  readonly save_steps?: number | undefined;
  /**
   * Checkpoints of this run that are kept, those written last, at least 1; default 2. The one that the run was resumed
   * from is kept as well. Other runs' are not counted.
   */
  readonly save_total_limit?: number | undefined;
  /** Formats of the log; default both. `TrainerOptions.loggers` takes others. */
  readonly report_to?: readonly ('jsonl' | 'tensorboard')[] | undefined;
  /**
   * Shows nothing of the progress on stderr. False shows a line even where stderr is not a terminal, every half minute.
   * Default: a line on a terminal, and nothing elsewhere.
   */
  readonly disable_tqdm?: boolean | undefined;
}

const schema = z.strictObject({
  output_dir: z.string().check(z.minLength(1)),
  num_train_epochs: z._default(z.int().check(z.gte(1)), 1000),
  max_steps: z._default(z.union([z.literal(-1), z.int().check(z.gte(1))]), -1),
  per_device_train_batch_size: z._default(z.int().check(z.gte(1), z.lte(1_000_000)), 512),
  gradient_accumulation_steps: z._default(z.int().check(z.gte(1), z.lte(65_536)), 1),
  isotropy_over: z._default(z.enum(['step', 'batch']), 'step'),
  gradient_checkpointing: z._default(z.boolean(), false),
  mixed_precision: z._default(z.enum(['no', 'fp16', 'bf16']), 'no'),
  random_flip: z._default(z.boolean(), false),
  class_dropout_prob: z._default(fraction, 0),
  noise_offset: z._default(finite.check(z.gte(0)), 0),
  input_perturbation: z._default(finite.check(z.gte(0)), 0),
  learning_rate: z.optional(finite.check(z.gte(0))),
  lr_scheduler_type: z._default(z.enum(LR_SCHEDULERS), 'constant'),
  warmup_steps: z._default(wholeNumber, 0),
  lr_num_cycles: z.optional(z.int().check(z.gte(1))),
  lr_power: z.optional(finite.check(z.positive())),
  lr_end: z.optional(finite.check(z.gte(0))),
  lr_step_rules: z.optional(z.string()),
  optim: z._default(z.enum(OPTIMIZERS), 'adam'),
  adam_beta1: z.optional(fraction),
  adam_beta2: z.optional(fraction),
  adam_epsilon: z.optional(finite.check(z.positive())),
  momentum: z.optional(fraction),
  nesterov: z.optional(z.boolean()),
  lion_beta1: z.optional(fraction),
  lion_beta2: z.optional(fraction),
  weight_decay: z.optional(finite.check(z.gte(0))),
  max_grad_norm: z._default(finite.check(z.gte(0)), 0),
  use_ema: z._default(z.boolean(), false),
  ema_inv_gamma: z._default(finite.check(z.positive()), 1),
  ema_power: z._default(finite.check(z.positive()), 0.75),
  ema_max_decay: z._default(finite.check(z.gte(0), z.lte(1)), 0.9999),
  ema_min_decay: z.optional(finite.check(z.gte(0), z.lte(1))),
  ema_update_after_step: z.optional(wholeNumber),
  use_ema_warmup: z.optional(z.boolean()),
  seed: z._default(z.int().check(z.gte(0), z.lte(Number.MAX_SAFE_INTEGER)), 0),
  device: z._default(z.enum(DEVICES), 'auto'),
  device_id: z.optional(deviceIdOption),
  tf32: z.optional(z.boolean()),
  logging_steps: z._default(z.int().check(z.gte(1)), 100),
  save_steps: z._default(wholeNumber, 0),
  save_total_limit: z._default(z.int().check(z.gte(1)), 2),
  report_to: z._default(z.array(z.enum(['jsonl', 'tensorboard'])), ['jsonl', 'tensorboard']),
  disable_tqdm: z.optional(z.boolean()),
} satisfies Fields<TrainingArguments>);

type CheckedArguments = z.output<typeof schema>;
export type ResolvedTrainingArguments = Omit<CheckedArguments, keyof OptimizerArguments> &
  ReturnType<typeof resolveOptimizer>;

/** Fills in defaults. @throws {InvalidArgumentError} that lists every wrong option. */
export function resolveTrainingArguments(args: TrainingArguments): ResolvedTrainingArguments {
  const checked = parseOptions(schema, args, 'training arguments');
  const optimizer = resolveOptimizer(checked);
  if (checked.mixed_precision === 'bf16')
    throw new InvalidArgumentError(
      "mixed_precision 'bf16' is not possible: onnxruntime has no bfloat16 kernels of ConvTranspose, Pad, Resize, Reciprocal and ReduceMean on cuda, none at all on cpu and webgpu, and ONNX has no bfloat16 Conv before opset 22. Use 'fp16'",
    );
  const { ema_min_decay = 0, ema_max_decay } = checked;
  if (ema_min_decay > ema_max_decay)
    throw new InvalidArgumentError(`ema_min_decay is ${ema_min_decay}, above ema_max_decay, ${ema_max_decay}`);
  return { ...checked, ...optimizer, ...learningRateOptions({ ...checked, ...optimizer }) };
}

/** The schedule that has an option. */
const SCHEDULE_OF = {
  lr_num_cycles: 'cosine_with_restarts',
  lr_power: 'polynomial',
  lr_end: 'polynomial',
  lr_step_rules: 'piecewise_constant',
} as const;

/** The options of the schedule with their defaults: a run records them. */
function learningRateOptions(args: CheckedArguments & { readonly learning_rate: number }) {
  const { lr_scheduler_type: type, learning_rate, warmup_steps } = args;
  for (const [name, schedule] of Object.entries(SCHEDULE_OF)) {
    const value = args[name as keyof typeof SCHEDULE_OF];
    if (value !== undefined && type !== schedule)
      throw new InvalidArgumentError(
        `${name} is ${value}, but belongs to lr_scheduler_type '${schedule}', not to '${type}': leave one of them out`,
      );
  }
  if (type === 'cosine_with_restarts') return { lr_num_cycles: args.lr_num_cycles ?? 1 };
  if (type === 'polynomial') {
    const { lr_power = 1, lr_end = 1e-7 } = args;
    if (lr_end >= learning_rate)
      throw new InvalidArgumentError(`lr_end is ${lr_end}, but must be below learning_rate, ${learning_rate}`);
    return { lr_power, lr_end };
  }
  if (type === 'piecewise_constant') {
    if (args.lr_step_rules === undefined)
      throw new InvalidArgumentError("lr_scheduler_type 'piecewise_constant' needs lr_step_rules: '1:50,0.1:120,0.01'");
    if (warmup_steps > 0)
      throw new InvalidArgumentError(
        `warmup_steps is ${warmup_steps}, but 'piecewise_constant' has no warm-up: put it into lr_step_rules`,
      );
    parseStepRules(args.lr_step_rules);
  }
  return {};
}
