import { DEVICES } from '../../runtime/device.ts';
import { OPTIMIZERS } from '../../trainers/optimizers.ts';
import { LR_SCHEDULERS } from '../../trainers/schedules.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../trainers/training-arguments.ts';
import * as z from '../../zod.ts';
import { booleanSchema, grouped, listOption, option, type Settings } from './command-options.ts';

const defaults = resolveTrainingArguments({ output_dir: '-' });

/** Defaults that differ between points (the paper's 2-D runs) and images (Ho et al. 2020). */
const KIND_DEFAULTS = {
  points: {
    num_train_epochs: 1000,
    per_device_train_batch_size: 512,
    learning_rate: 1e-3,
    max_grad_norm: 0,
    logging_steps: 100,
    save_steps: 0,
  },
  images: {
    num_train_epochs: 100,
    per_device_train_batch_size: 16,
    learning_rate: 2e-4,
    max_grad_norm: 1,
    logging_steps: 10,
    save_steps: 1000,
  },
} as const;
const byKind = (key: keyof typeof KIND_DEFAULTS.points) =>
  `(default: points ${KIND_DEFAULTS.points[key]}, images ${KIND_DEFAULTS.images[key]})`;

const number = z.optional(z.number());
const numberOr = (standard: number) => z._default(z.number(), standard);

/** `TrainingArguments` as options. The trainer has the defaults and checks the ranges. */
export const trainingOptions = grouped('Training:', {
  num_train_epochs: option('--epochs, --num-train-epochs <count>', number, `epochs ${byKind('num_train_epochs')}`),
  max_steps: option('--max-steps <count>', number, 'number of steps, instead of epochs'),
  per_device_train_batch_size: option(
    '--batch-size, --per-device-train-batch-size <count>',
    number,
    `samples per batch ${byKind('per_device_train_batch_size')}`,
  ),
  gradient_accumulation_steps: option(
    '--gradient-accumulation-steps <count>',
    numberOr(defaults.gradient_accumulation_steps),
    'batches per step',
  ),
  isotropy_over: option(
    '--isotropy-over <what>',
    z._default(z.enum(['step', 'batch']), defaults.isotropy_over),
    'the isotropy penalty is of all batches of a step, or of each by itself: step or batch',
  ),
  gradient_checkpointing: option(
    '--gradient-checkpointing',
    z._default(z.boolean(), defaults.gradient_checkpointing),
    'recompute the blocks of a U-Net in the backward pass: less memory, more time',
  ),
  mixed_precision: option(
    '--mixed-precision <type>',
    z._default(z.enum(['no', 'fp16', 'bf16']), defaults.mixed_precision),
    'type in which the model computes: no is float32, fp16 is float16 with a scaled loss',
  ),
  noise_offset: option(
    '--noise-offset <strength>',
    numberOr(defaults.noise_offset),
    'share of a normal number that the noise of each channel is shifted by',
  ),
  input_perturbation: option(
    '--input-perturbation <strength>',
    numberOr(defaults.input_perturbation),
    'more noise in the sample than the model is asked for',
  ),
  learning_rate: option(
    '--lr, --learning-rate <rate>',
    number,
    `learning rate ${byKind('learning_rate')}; lion: a tenth of it`,
  ),
  lr_scheduler_type: option(
    '--lr-scheduler-type <name>',
    z._default(z.enum(LR_SCHEDULERS), defaults.lr_scheduler_type),
    LR_SCHEDULERS.join(', '),
  ),
  warmup_steps: option(
    '--warmup-steps <count>',
    numberOr(defaults.warmup_steps),
    'steps over which the learning rate rises from 0',
  ),
  lr_num_cycles: option('--lr-num-cycles <count>', number, 'cycles of cosine_with_restarts (default: 1)'),
  lr_power: option('--lr-power <power>', number, 'exponent of polynomial (default: 1)'),
  lr_end: option('--lr-end <rate>', number, 'last learning rate of polynomial (default: 1e-7)'),
  lr_step_rules: option(
    '--lr-step-rules <rules>',
    z.optional(z.string()),
    'factors of piecewise_constant with the steps they hold up to: 1:5000,0.1:8000,0.01',
  ),
  optim: option('--optim <name>', z._default(z.enum(OPTIMIZERS), defaults.optim), 'adam, adamw, sgd or lion'),
  adam_beta1: option('--adam-beta1 <beta>', number, "Adam's decay of the mean of gradients (default: 0.9)"),
  adam_beta2: option('--adam-beta2 <beta>', number, "Adam's decay of the mean of squares (default: 0.999)"),
  adam_epsilon: option('--adam-epsilon <value>', number, "Adam's epsilon (default: 1e-8)"),
  momentum: option('--momentum <share>', number, 'share of the last step in the next one, of sgd (default: 0)'),
  nesterov: option('--nesterov', z.optional(z.boolean()), "Nesterov's momentum, of sgd"),
  lion_beta1: option('--lion-beta1 <beta>', number, "share of Lion's moment in a step (default: 0.9)"),
  lion_beta2: option('--lion-beta2 <beta>', number, "decay of Lion's moment (default: 0.99)"),
  weight_decay: option('--weight-decay <rate>', number, 'weight decay (default: 0; adamw: 0.01)'),
  max_grad_norm: option(
    '--max-grad-norm <norm>',
    number,
    `clip gradients to this norm; 0: never ${byKind('max_grad_norm')}`,
  ),
  use_ema: option(
    '--ema, --use-ema',
    z._default(z.boolean(), false),
    'keep a moving average of the weights and save it next to the raw ones',
  ),
  ema_inv_gamma: option(
    '--ema-inv-gamma <value>',
    numberOr(defaults.ema_inv_gamma),
    'inverse gamma of the EMA warm-up',
  ),
  ema_power: option('--ema-power <value>', numberOr(defaults.ema_power), 'power of the EMA warm-up'),
  ema_max_decay: option('--ema-max-decay <value>', numberOr(defaults.ema_max_decay), 'largest EMA decay'),
  ema_min_decay: option('--ema-min-decay <value>', number, 'smallest EMA decay (default: 0)'),
  ema_update_after_step: option('--ema-update-after-step <count>', number, 'steps before the EMA begins (default: 0)'),
  use_ema_warmup: option(
    '--use-ema-warmup <boolean>',
    z.optional(booleanSchema),
    'whether the EMA decay follows inverse gamma and power (default: true)',
  ),
  seed: option(
    '--seed <seed>',
    numberOr(defaults.seed),
    'seed of the initial weights, the order of samples and the noise',
  ),
  device: option('--device <name>', z._default(z.enum(DEVICES), defaults.device), DEVICES.join(', ')),
});

export const outputOptions = grouped('Output:', {
  output_dir: option('--output, --output-dir <folder>', z._default(z.string(), 'runs/latest'), 'output folder'),
  logging_steps: option('--logging-steps <count>', number, `log every so many steps ${byKind('logging_steps')}`),
  save_steps: option(
    '--save-steps <count>',
    number,
    `save a checkpoint every so many steps; 0: only at the end ${byKind('save_steps')}`,
  ),
  save_total_limit: option('--save-total-limit <count>', numberOr(defaults.save_total_limit), 'checkpoints to keep'),
  report_to: listOption(
    'names',
    '--report-to <names...>',
    z._default(z.array(z.enum(['jsonl', 'tensorboard'])), defaults.report_to),
    'jsonl, tensorboard',
  ),
  disable_tqdm: option('--disable-tqdm', z._default(z.boolean(), false), 'show no progress'),
});

type TrainingSettings = Settings<typeof trainingOptions & typeof outputOptions>;

/** The trainer's arguments: the given options, and the kind's defaults for the rest. */
export function trainingArguments(
  kind: keyof typeof KIND_DEFAULTS,
  settings: Partial<TrainingSettings> & Pick<TrainingSettings, 'output_dir' | 'optim'>,
): TrainingArguments {
  const keys = [...Object.keys(trainingOptions), ...Object.keys(outputOptions)];
  const given = keys
    .map((key) => [key, settings[key as keyof TrainingSettings]] as const)
    .filter(([, value]) => value !== undefined);
  const standard = KIND_DEFAULTS[kind];
  const learning_rate = /^lion/.test(settings.optim) ? standard.learning_rate / 10 : standard.learning_rate;
  return { output_dir: settings.output_dir, ...standard, learning_rate, ...Object.fromEntries(given) };
}
