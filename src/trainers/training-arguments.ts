import { z } from 'zod';
import { InvalidArgumentError } from '../errors.ts';
import { DEVICES } from '../runtime/device.ts';

const finite = z.number().refine(Number.isFinite, 'must be finite');
const wholeNumber = z.int().min(0);
const fraction = finite.min(0).lt(1);

const schema = z.strictObject({
  output_dir: z.string().min(1),
  num_train_epochs: z.int().min(1).default(1000),
  max_steps: z.union([z.literal(-1), z.int().min(1)]).default(-1),
  per_device_train_batch_size: z.int().min(1).max(1_000_000).default(512),
  gradient_accumulation_steps: z.int().min(1).max(65_536).default(1),
  gradient_checkpointing: z.boolean().default(false),
  random_flip: z.boolean().default(false),
  class_dropout_prob: fraction.default(0),
  learning_rate: finite.min(0).default(1e-3),
  lr_scheduler_type: z.enum(['constant', 'linear', 'cosine']).default('constant'),
  warmup_steps: wholeNumber.default(0),
  optim: z.enum(['adam', 'adamw']).default('adam'),
  adam_beta1: fraction.default(0.9),
  adam_beta2: fraction.default(0.999),
  adam_epsilon: finite.positive().default(1e-8),
  weight_decay: finite.min(0).optional(),
  max_grad_norm: finite.min(0).default(0),
  use_ema: z.boolean().default(false),
  ema_inv_gamma: finite.positive().default(1),
  ema_power: finite.positive().default(0.75),
  ema_max_decay: finite.min(0).max(1).default(0.9999),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  device: z.enum(DEVICES).default('auto'),
  logging_steps: z.int().min(1).default(100),
  save_steps: wholeNumber.default(0),
  save_total_limit: z.int().min(1).default(2),
  report_to: z.array(z.enum(['jsonl', 'tensorboard'])).default(['jsonl', 'tensorboard']),
});

/**
 * Hugging Face's names and meanings.
 *
 * - `output_dir`: where checkpoints and logs go.
 * - `num_train_epochs` (1000), or `max_steps` (-1: by epochs) which overrides it.
 * - `per_device_train_batch_size` (512).
 * - `gradient_accumulation_steps` (1): batches whose mean gradient makes one step. Each batch has its own loss, so that
 *   the expectation in the iso loss runs over a batch, not over the whole step.
 * - `gradient_checkpointing` (false): keeps the inputs of the U-Net's blocks only and computes what is inside again in the
 *   backward pass: about a third more time a step, less memory, the same results bit for bit.
 * - `random_flip` (false): mirrors half of the images; no effect on points.
 * - `class_dropout_prob` (0): how often a class-conditional model sees a sample without its class, for
 *   classifier-free guidance; 0.1 is usual. The model's last class stands for none.
 * - `learning_rate` (1e-3), `lr_scheduler_type` 'constant' (default), 'linear' or 'cosine', `warmup_steps` (0).
 * - `optim` 'adam' (default) or 'adamw'; `adam_beta1` (0.9), `adam_beta2` (0.999), `adam_epsilon` (1e-8),
 *   `weight_decay` (adamw: 0.01; must be 0 or left out for adam).
 * - `max_grad_norm` (0: no clipping).
 * - `use_ema` (false), with diffusers' warm-up: `ema_inv_gamma` (1), `ema_power` (0.75), `ema_max_decay` (0.9999).
 * - `seed` (0), `device` ('auto').
 * - `logging_steps` (100), `save_steps` (0: only at the end or when interrupted), `save_total_limit` (2).
 * - `report_to`: 'jsonl' and 'tensorboard' by default.
 */
export type TrainingArguments = z.input<typeof schema>;
export type ResolvedTrainingArguments = z.output<typeof schema> & { readonly weight_decay: number };

/** Fills in defaults. @throws {InvalidArgumentError} that lists every wrong option. */
export function resolveTrainingArguments(args: TrainingArguments): ResolvedTrainingArguments {
  const parsed = schema.safeParse(args);
  if (!parsed.success)
    throw new InvalidArgumentError(`wrong training arguments:\n${z.prettifyError(parsed.error)}`);
  const { optim, weight_decay = optim === 'adamw' ? 0.01 : 0 } = parsed.data;
  if (optim === 'adam' && weight_decay !== 0) {
    throw new InvalidArgumentError(
      `weight_decay is ${weight_decay}, but optim 'adam' has none: use optim 'adamw'`,
    );
  }
  return { ...parsed.data, weight_decay };
}
