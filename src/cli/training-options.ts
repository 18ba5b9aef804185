import { z } from 'zod';
import { DEVICES } from '../runtime/device.ts';
import { resolveTrainingArguments } from '../trainers/training-arguments.ts';
import { option } from './command-options.ts';

const defaults = resolveTrainingArguments({ output_dir: '-' });

/** `TrainingArguments` as options. Ranges are checked by the trainer, which also has the defaults. */
export const trainingOptions = {
  output_dir: option('--output, --output-dir <folder>', z.string().default('runs/latest'), 'where to write'),
  num_train_epochs: option(
    '--epochs, --num-train-epochs <count>',
    z.number().default(defaults.num_train_epochs),
    'epochs',
  ),
  max_steps: option(
    '--max-steps <count>',
    z.number().default(defaults.max_steps),
    'steps; overrides the epochs',
  ),
  per_device_train_batch_size: option(
    '--batch-size, --per-device-train-batch-size <count>',
    z.number().default(defaults.per_device_train_batch_size),
    'points a step',
  ),
  gradient_accumulation_steps: option(
    '--gradient-accumulation-steps <count>',
    z.number().default(defaults.gradient_accumulation_steps),
    'batches a step',
  ),
  gradient_checkpointing: option(
    '--gradient-checkpointing',
    z.boolean().default(defaults.gradient_checkpointing),
    'compute the blocks of a U-Net again in the backward pass: less memory, more time',
  ),
  learning_rate: option(
    '--lr, --learning-rate <rate>',
    z.number().default(defaults.learning_rate),
    'learning rate',
  ),
  lr_scheduler_type: option(
    '--lr-scheduler-type <name>',
    z.enum(['constant', 'linear', 'cosine']).default(defaults.lr_scheduler_type),
    'constant, linear or cosine',
  ),
  warmup_steps: option('--warmup-steps <count>', z.number().default(defaults.warmup_steps), 'warm-up'),
  optim: option('--optim <name>', z.enum(['adam', 'adamw']).default(defaults.optim), 'adam or adamw'),
  adam_beta1: option('--adam-beta1 <beta>', z.number().default(defaults.adam_beta1), 'decay of the mean'),
  adam_beta2: option('--adam-beta2 <beta>', z.number().default(defaults.adam_beta2), 'decay of the square'),
  adam_epsilon: option('--adam-epsilon <value>', z.number().default(defaults.adam_epsilon), 'epsilon'),
  weight_decay: option('--weight-decay <rate>', z.number().optional(), 'weight decay (adamw: 0.01)'),
  max_grad_norm: option(
    '--max-grad-norm <norm>',
    z.number().default(defaults.max_grad_norm),
    'clip gradients to this norm; 0: off',
  ),
  use_ema: option(
    '--ema, --use-ema',
    z.boolean().default(false),
    'average the weights; the average is saved',
  ),
  ema_inv_gamma: option('--ema-inv-gamma <value>', z.number().default(defaults.ema_inv_gamma), 'EMA warm-up'),
  ema_power: option('--ema-power <value>', z.number().default(defaults.ema_power), 'EMA warm-up'),
  ema_max_decay: option('--ema-max-decay <value>', z.number().default(defaults.ema_max_decay), 'EMA decay'),
  seed: option('--seed <seed>', z.number().default(defaults.seed), 'seed of weights, order and noise'),
  device: option('--device <name>', z.enum(DEVICES).default(defaults.device), DEVICES.join(', ')),
  logging_steps: option('--logging-steps <count>', z.number().default(defaults.logging_steps), 'steps a log'),
  save_steps: option(
    '--save-steps <count>',
    z.number().default(defaults.save_steps),
    'steps a checkpoint; 0: only the last',
  ),
  save_total_limit: option(
    '--save-total-limit <count>',
    z.number().default(defaults.save_total_limit),
    'checkpoints to keep',
  ),
  report_to: option(
    '--report-to <names...>',
    z.array(z.enum(['jsonl', 'tensorboard'])).default(defaults.report_to),
    'jsonl, tensorboard',
  ),
};
