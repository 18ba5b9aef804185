import { loadPoints } from '../../../datasets/index.ts';
import { InvalidArgumentError } from '../../../errors.ts';
import { ConditionalDense, type DiffusionModel } from '../../../models/index.ts';
import { modelFromConfig } from '../../../models/registry.ts';
import type { Scheduler } from '../../../schedulers/index.ts';
import { Trainer } from '../../../trainers/trainer.ts';
import type { TrainerOptions } from '../../../trainers/trainer-options.ts';
import * as z from '../../../zod.ts';
import { givenFlag, grouped, listOption, option, type Settings } from '../../options/command-options.ts';
import { modelConfig, type modelOptions } from '../../options/new-model.ts';

export const pointOptions = grouped('Points:', {
  noise: option(
    '--noise <deviation>',
    z.optional(z.number()),
    "standard deviation of the noise of synthetic points (default: the set's)",
  ),
  scaling: option(
    '--scaling <kind>',
    z.optional(z.enum(['min-max', 'standardise', 'none'])),
    'min-max (default), standardise or none',
  ),
  columns: listOption(
    'names',
    '--columns <names...>',
    z.optional(z.array(z.string()).check(z.minLength(1))),
    'columns of a parquet file or a set of the Hub (default: x y, else the first two of numbers)',
  ),
  data_seed: option('--data-seed <seed>', z.optional(z.number()), 'seed of synthetic points (default: 0)'),
  hidden_features: option('--hidden-features <width>', z.optional(z.number()), 'width of the network (default: 128)'),
  num_hidden_layers: option('--num-hidden-layers <count>', z.optional(z.number()), 'hidden layers (default: 3)'),
});

type PointTrainingSettings = Settings<typeof pointOptions & typeof modelOptions> & {
  readonly n: number | undefined;
  readonly split: string | undefined;
  readonly dataset_config_name: string | undefined;
  readonly dataset_revision: string | undefined;
  readonly cache_dir: string | undefined;
};

/** A trainer of the paper's 2-D network, or of the class that `--model` names. */
export async function pointTrainer(
  source: string,
  settings: PointTrainingSettings,
  common: Omit<TrainerOptions, 'model' | 'train_dataset'>,
): Promise<Trainer> {
  const { n, noise, data_seed: seed, scaling, columns, split, dataset_config_name, cache_dir } = settings;
  const ofHub = { split, dataset_config_name, revision: settings.dataset_revision, cache_dir };
  const { on_warning } = common;
  const train_dataset = await loadPoints(source, { n, noise, seed, scaling, columns, ...ofHub, on_warning });
  const model = await newModel(settings, train_dataset.dims, common.noise_scheduler);
  return new Trainer({ ...common, model, train_dataset });
}

async function newModel(
  settings: PointTrainingSettings,
  in_features: number,
  { config: { num_train_timesteps } }: Scheduler,
): Promise<DiffusionModel> {
  const { model, hidden_features, num_hidden_layers } = settings;
  if (model === undefined) {
    await modelConfig(settings);
    return new ConditionalDense({ in_features, num_train_timesteps, hidden_features, num_hidden_layers });
  }
  const width = givenFlag(settings, ['hidden_features', 'num_hidden_layers']);
  if (width !== undefined)
    throw new InvalidArgumentError(`option ${width} is for the default network: put it into --model-config`);
  const config = await modelConfig(settings);
  if (config === undefined)
    throw new InvalidArgumentError(`--model '${model}' draws images: leave it out, or name a model of points`);
  return modelFromConfig(config);
}
