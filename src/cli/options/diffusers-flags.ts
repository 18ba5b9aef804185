/*
 * The flags of diffusers' examples/unconditional_image_generation/train_unconditional.py, and what `train` has for each.
 * docs/from-diffusers.md is made of them.
 */

export type FlagValue = string | number | boolean | null;

/** The value of every flag: the given one, or the script's default. */
export type FlagValues = Readonly<Record<string, FlagValue>>;

export interface DiffusersFlag {
  readonly name: string;
  /** As Python's argparse takes it; a switch has no value. */
  readonly type: 'str' | 'int' | 'float' | 'switch';
  /** Of the script. */
  readonly default: FlagValue;
  readonly choices?: readonly string[] | undefined;
  /** The key of the option of `train` that is accepted under this name too; undefined: the name is refused. */
  readonly option?: string | undefined;
  /** What does the same here, in Markdown; '' for nothing. */
  readonly here: string;
  /** Our default, for images. */
  readonly ours: string;
  /** What differs, or why there is nothing; '' where nothing differs. */
  readonly note: string;
  /** Whether the note matters at a value; default: where the flag is given. */
  readonly notedAt?: ((values: FlagValues, given: boolean) => boolean) | undefined;
  /** The words for `train` that do the same; default none. */
  readonly words?: ((values: FlagValues, given: boolean) => readonly string[]) | undefined;
}

type Facts = Partial<Pick<DiffusersFlag, 'note' | 'notedAt' | 'words' | 'choices' | 'ours' | 'here' | 'option'>>;

/** A flag without a counterpart: `note` says why. */
function none(name: string, type: DiffusersFlag['type'], standard: FlagValue, note: string, facts: Facts = {}) {
  return { name, type, default: standard, here: '', ours: '', note, ...facts };
}

/** A flag with a counterpart of the same meaning, which is named where its value was given or is not our default. */
function same(
  name: string,
  type: DiffusersFlag['type'],
  standard: FlagValue,
  flag: string,
  ours: FlagValue,
  facts: Facts = {},
): DiffusersFlag {
  const words = (values: FlagValues, given: boolean) => {
    const value = values[name] ?? null;
    if (type === 'switch') return value === true ? [flag] : [];
    return value !== null && (given || value !== ours) ? [flag, String(value)] : [];
  };
  const option = flag.slice(2).replaceAll('-', '_');
  return {
    name,
    type,
    default: standard,
    option,
    here: `\`${flag}\``,
    ours: String(ours ?? ''),
    note: '',
    words,
    ...facts,
  };
}

const warmsUp = (values: FlagValues) => values.lr_scheduler !== 'constant';

export const DIFFUSERS_FLAGS: readonly DiffusersFlag[] = [
  same('dataset_name', 'str', null, '--dataset', 'swiss-roll', {
    note: 'a data set of the Hub is owner/name; a name without an owner is not looked up there',
    notedAt: ({ dataset_name: name }) => typeof name === 'string' && !/[/\\]/.test(name),
  }),
  same('dataset_config_name', 'str', null, '--dataset-config-name', null),
  same('model_config_name_or_path', 'str', null, '--model', 'small', {
    note: 'without it the script trains the U-Net that is called `default` here, of 114 million parameters; our `small` is made for a CPU',
    notedAt: (_, given) => !given,
    words: ({ model_config_name_or_path: model }) => ['--model', model === null ? 'default' : String(model)],
  }),
  same('train_data_dir', 'str', null, '--dataset', 'swiss-roll', {
    note: 'where --dataset_name is given too, the script ignores it; here the two are one option',
    notedAt: ({ dataset_name }, given) => given && dataset_name !== null,
    words: ({ dataset_name, train_data_dir: folder }) =>
      dataset_name === null && folder !== null ? ['--dataset', String(folder)] : [],
  }),
  same('output_dir', 'str', 'ddpm-model-64', '--output-dir', 'runs/latest', {
    here: '`--output`',
    note: 'the pipeline is in the folder `pipeline` inside, beside checkpoints, logs and plots',
    words: ({ output_dir }) => ['--output', String(output_dir)],
  }),
  none('overwrite_output_dir', 'switch', false, 'the script never reads it; a former run is continued with `--resume`'),
  same('cache_dir', 'str', null, '--cache-dir', null),
  same('resolution', 'int', 64, '--resolution', "the data set's, or 64", {
    words: ({ resolution }) => ['--resolution', String(resolution)],
  }),
  same('center_crop', 'switch', false, '--center-crop', true, {
    note: 'the script crops at random without it; here the centre is kept without `--random-crop`',
    notedAt: () => true,
    words: ({ center_crop }) => [center_crop === true ? '--center-crop' : '--random-crop'],
  }),
  same('random_flip', 'switch', false, '--random-flip', false),
  same('train_batch_size', 'int', 16, '--batch-size', 16, { option: 'per_device_train_batch_size' }),
  same('eval_batch_size', 'int', 16, '--sample-count', 16),
  none('dataloader_num_workers', 'int', 0, 'a thread always makes the next batches while a step runs'),
  same('num_epochs', 'int', 100, '--epochs', 100, { option: 'num_train_epochs' }),
  none('save_images_epochs', 'int', 10, 'it counts epochs, ours steps; an epoch has images / batch size of them', {
    here: '`--sample-every`',
    ours: '500',
    notedAt: () => true,
  }),
  none('save_model_epochs', 'int', 10, 'the pipeline is saved once, at the end; every checkpoint has the weights'),
  same('gradient_accumulation_steps', 'int', 1, '--gradient-accumulation-steps', 1, {
    note: "with more than 1 the script's schedule counts batches but moves once a step, so it warms up for as many more steps and ends before it has decayed; here it ends at 0",
    notedAt: ({ gradient_accumulation_steps: steps }) => Number(steps) > 1,
  }),
  same('learning_rate', 'float', 1e-4, '--learning-rate', 2e-4, { here: '`--lr`' }),
  same('lr_scheduler', 'str', 'cosine', '--lr-scheduler-type', 'constant', {}),
  same('lr_warmup_steps', 'int', 500, '--warmup-steps', 0, {
    note: 'the script has no warm-up with `constant`',
    notedAt: (values, given) => given && !warmsUp(values),
    words: (values) => {
      const steps = Number(values.lr_warmup_steps) * Number(values.gradient_accumulation_steps);
      return warmsUp(values) && steps > 0 ? ['--warmup-steps', String(steps)] : [];
    },
  }),
  same('adam_beta1', 'float', 0.95, '--adam-beta1', 0.9),
  same('adam_beta2', 'float', 0.999, '--adam-beta2', 0.999),
  same('adam_weight_decay', 'float', 1e-6, '--weight-decay', 0, {
    here: '`--optim adamw --weight-decay`',
    note: "the script's optimizer is AdamW, ours Adam, which has no weight decay",
    notedAt: () => true,
    words: ({ adam_weight_decay }) => ['--optim', 'adamw', '--weight-decay', String(adam_weight_decay)],
  }),
  same('adam_epsilon', 'float', 1e-8, '--adam-epsilon', 1e-8),
  same('use_ema', 'switch', false, '--use-ema', false, {
    here: '`--ema`',
    note: 'both weights are saved, the averaged ones in `unet_ema`, where the script saves these alone',
    words: ({ use_ema }) => (use_ema === true ? ['--ema'] : []),
  }),
  same('ema_inv_gamma', 'float', 1, '--ema-inv-gamma', 1),
  same('ema_power', 'float', 0.75, '--ema-power', 0.75),
  same('ema_max_decay', 'float', 0.9999, '--ema-max-decay', 0.9999),
  same('push_to_hub', 'switch', false, '--push-to-hub', false, {
    note: 'the pipeline is pushed once, at the end; the script pushes the whole output folder at every save',
  }),
  same('hub_token', 'str', null, '--hub-token', null, {
    note: 'a token on the command line can be seen by others; the command that is printed leaves it to `HF_TOKEN`',
    words: () => [],
  }),
  same('hub_model_id', 'str', null, '--hub-model-id', null),
  same('hub_private_repo', 'switch', false, '--hub-private-repo', false, {
    note: 'the script never reads it, and makes a public repository',
  }),
  same('logger', 'str', 'tensorboard', '--report-to', 'jsonl,tensorboard', {
    choices: ['tensorboard', 'wandb'],
    note: 'both logs that there are, JSONL and TensorBoard, are written; `wandb` is not there, and needs a logger of your own',
    words: () => [],
  }),
  none('logging_dir', 'str', 'logs', 'logs lie in the output folder'),
  none('local_rank', 'int', -1, '`mpirun` and `srun` say it: see distributed.md'),
  same('mixed_precision', 'str', 'no', '--mixed-precision', 'no', {
    choices: ['no', 'fp16', 'bf16'],
    note: '`bf16` is refused, because onnxruntime lacks kernels for it: `fp16` is there',
    notedAt: ({ mixed_precision }) => mixed_precision === 'bf16',
  }),
  same('prediction_type', 'str', 'epsilon', '--prediction-type', 'epsilon', {
    choices: ['epsilon', 'sample'],
    note: 'with `sample` the script weights the error of each image by its signal-to-noise ratio, as `--base-loss snr` does',
    notedAt: ({ prediction_type }) => prediction_type === 'sample',
    words: ({ prediction_type: type }) =>
      type === 'sample' ? ['--prediction-type', 'sample', '--base-loss', 'snr'] : [],
  }),
  same('ddpm_num_steps', 'int', 1000, '--num-train-timesteps', 1000),
  none('ddpm_num_inference_steps', 'int', 1000, 'samples while training take 50 steps of DDIM, not 1000 of DDPM', {
    here: '`generate --steps`',
  }),
  same('ddpm_beta_schedule', 'str', 'linear', '--beta-schedule', 'linear'),
  same('checkpointing_steps', 'int', 500, '--save-steps', 1000),
  same('checkpoints_total_limit', 'int', null, '--save-total-limit', 2, {
    note: 'the script keeps all checkpoints without it, ours the last 2',
    notedAt: (_, given) => !given,
  }),
  same('resume_from_checkpoint', 'str', null, '--resume-from-checkpoint', null, {
    here: '`--resume`',
    note: 'the script takes the last part of a path for a name in its output folder; checkpoints of the script itself cannot be resumed here, but its pipelines are fine-tuned with `--init-from`',
    words: ({ resume_from_checkpoint: from, output_dir }) => {
      if (from === null) return [];
      const [name = ''] = String(from).split('/').filter(Boolean).slice(-1);
      return ['--resume', from === 'latest' ? 'latest' : `${String(output_dir).replace(/\/+$/, '')}/${name}`];
    },
  }),
  none(
    'enable_xformers_memory_efficient_attention',
    'switch',
    false,
    'not needed: attention is part of the graph that onnxruntime runs; `--gradient-checkpointing` saves memory',
  ),
  none('preserve_input_precision', 'switch', false, 'images are read with 8 bits a channel'),
];

/** The further names of an option of `train`, by its key. */
export function diffusersNames(key: string): string[] {
  return DIFFUSERS_FLAGS.filter(({ name, option }) => option === key && name !== key).map(({ name }) => name);
}

/** Why a name is refused, where it is a flag of the script that has no counterpart; undefined for others. */
export function whyRefused(name: string): string | undefined {
  const flag = DIFFUSERS_FLAGS.find((each) => each.name === name.replaceAll('-', '_') && each.option === undefined);
  if (flag === undefined) return undefined;
  const instead = flag.here === '' ? '' : `. See ${flag.here}`;
  return `'${flag.name}' of diffusers' script is not an option here: ${flag.note}${instead}`.replaceAll('`', '');
}
