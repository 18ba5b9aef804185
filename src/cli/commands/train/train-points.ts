import { z } from 'zod';
import { loadPoints } from '../../../datasets/index.ts';
import type { DiffusionLoss } from '../../../losses/index.ts';
import { ConditionalDense } from '../../../models/index.ts';
import type { DDPMScheduler } from '../../../schedulers/index.ts';
import { Trainer } from '../../../trainers/trainer.ts';
import type { TrainerCallback } from '../../../trainers/trainer-callback.ts';
import type { TrainingArguments } from '../../../trainers/training-arguments.ts';
import { grouped, option, type Settings } from '../../options/command-options.ts';

export const pointOptions = grouped('Points:', {
  noise: option('--noise <deviation>', z.number().optional(), "noise of the made points, default the set's"),
  scaling: option(
    '--scaling <kind>',
    z.enum(['min-max', 'standardise', 'none']).optional(),
    'min-max (default), standardise or none',
  ),
  data_seed: option('--data-seed <seed>', z.number().optional(), 'seed of the made points (default: 0)'),
  hidden_features: option(
    '--hidden-features <width>',
    z.number().optional(),
    'width of the network (default: 128)',
  ),
  num_hidden_layers: option(
    '--num-hidden-layers <count>',
    z.number().optional(),
    'hidden layers (default: 3)',
  ),
});

/** A trainer of the paper's 2-D network. */
export async function pointTrainer(
  source: string,
  settings: Settings<typeof pointOptions> & { readonly n: number | undefined },
  common: { args: TrainingArguments; loss: DiffusionLoss; noise_scheduler: DDPMScheduler },
  callbacks: readonly TrainerCallback[],
): Promise<Trainer> {
  const { n, noise, data_seed, scaling, hidden_features, num_hidden_layers } = settings;
  const train_dataset = await loadPoints(source, { n, noise, seed: data_seed, scaling });
  const { num_train_timesteps } = common.noise_scheduler.config;
  const model = new ConditionalDense({
    in_features: train_dataset.dims,
    num_train_timesteps,
    ...(hidden_features === undefined ? {} : { hidden_features }),
    ...(num_hidden_layers === undefined ? {} : { num_hidden_layers }),
  });
  return new Trainer({ ...common, model, train_dataset, callbacks });
}
