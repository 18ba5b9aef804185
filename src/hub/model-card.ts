import { stringify } from 'yaml';
import { type CardResults, escaped, metricsSection, modelIndex, publicName, table } from './card-results.ts';
import type { PipelineLayout } from './pipeline-folder.ts';

export interface ModelCardFacts {
  readonly task: 'unconditional-image-generation' | 'unconditional-point-generation';
  /** The model's class. */
  readonly className: string;
  /** Whether diffusers has a model class of this name and loads the folder. */
  readonly isInDiffusers: boolean;
  /** Whether there is a `unet_ema` beside `unet`. */
  readonly averaged: boolean;
  readonly dataset: string;
  /** `owner/name` of the data set, where it is one of the Hub. */
  readonly hubId?: string | undefined;
  /** Training steps that were run. */
  readonly steps: number;
  readonly loss: unknown;
  /** The training arguments. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** The names of the classes of a class-conditional model, by number; default none. */
  readonly classNames?: readonly string[] | undefined;
  /** Of an evaluation; default none. */
  readonly results?: CardResults | undefined;
  /** The licence's name on the Hub. */
  readonly license?: string | undefined;
  /** A picture of samples by its path in the folder, without blanks; default none. */
  readonly picture?: string | undefined;
  /** The class of the autoencoder whose latents the model draws; default none. */
  readonly autoencoder?: string | undefined;
  /** The layout of the folder; default 'nested'. */
  readonly layout?: PipelineLayout | undefined;
}

/**
 * The README.md of a saved pipeline as the Hugging Face Hub shows it: a YAML header, how it was trained, its metrics,
 * and how to use it here, in transformers.js and in diffusers.
 */
export function modelCard(facts: ModelCardFacts): string {
  const { task, className, isInDiffusers, steps, loss, settings, classNames, results, license, averaged, picture } =
    facts;
  const { autoencoder } = facts;
  const dataset = { name: facts.dataset, hubId: facts.hubId };
  const images = task === 'unconditional-image-generation';
  const title = `${images ? 'Images' : 'Points'} from ${publicName(dataset)}`;
  const header = {
    ...(license ? { license } : {}),
    library_name: isInDiffusers ? 'diffusers' : 'iso-diffusion',
    tags: ['iso-diffusion', 'ddpm', 'onnx', 'transformers.js'],
    ...(images ? { pipeline_tag: task } : {}),
    ...(dataset.hubId ? { datasets: [dataset.hubId] } : {}),
    ...(results ? { 'model-index': modelIndex(results, { name: title, task, dataset }) } : {}),
  };
  const sections = [
    `---\n${stringify(header)}---`,
    `# ${escaped(title)}`,
    `A ${autoencoder === undefined ? 'denoising' : 'latent'} diffusion model (${escaped(className)}${autoencoder === undefined ? '' : `, on the latents of an ${escaped(autoencoder)}`}), trained with [iso-diffusion](https://arxiv.org/abs/2403.16790).`,
    ...(picture ? [`![Samples of the model](${picture})`] : []),
    `## Training\n\n${table({ dataset: publicName(dataset), steps, loss: JSON.stringify(loss), ...settings })}`,
    ...(classNames ? [`## Classes\n\n${table(Object.fromEntries(classNames.entries()))}`] : []),
    ...(results ? [metricsSection(results)] : []),
    `## Use\n\n${usage(facts)}`,
    ...(averaged ? ['`unet_ema` holds the moving average of the weights, `unet` the raw ones.'] : []),
  ];
  return `${sections.join('\n\n')}\n`;
}

function usage({ task, className, isInDiffusers, averaged, autoencoder, layout = 'nested' }: ModelCardFacts): string {
  const subfolder = averaged ? 'unet_ema' : layout === 'flat' ? undefined : 'unet';
  const pipelineClass = autoencoder === undefined ? 'DDPMPipeline' : 'LDMPipeline';
  const here = `\`\`\`ts
import { pipeline } from 'iso-diffusion';

const generate = await pipeline('${task}', './this-folder');
const output = await generate({ batch_size: 4, seed: 0 });
\`\`\``;
  const autoModel = `\`\`\`js
import { AutoModel } from '@huggingface/transformers';

const model = await AutoModel.from_pretrained('./this-folder');
const { out_sample } = await model({ sample, timestep });
\`\`\``;
  const transformers = `\`\`\`js
import { PreTrainedModel, PretrainedConfig } from '@huggingface/transformers';

class Model extends PreTrainedModel {}
const config = new PretrainedConfig({ model_type: 'custom' });
const model = await Model.from_pretrained('./this-folder', { subfolder: '${subfolder ?? ''}', model_file_name: 'model', config, dtype: 'fp32' });
const { out_sample } = await model({ sample, timestep });
\`\`\``;
  const python = `\`\`\`python
from diffusers import ${pipelineClass}, ${className}

unet = ${className}.from_pretrained("./this-folder"${subfolder ? `, subfolder="${subfolder}"` : ''})
pipe = ${pipelineClass}.from_pretrained("./this-folder", unet=unet)
image = pipe().images[0]
\`\`\``;
  return [here, layout === 'transformers.js' ? autoModel : transformers, ...(isInDiffusers ? [python] : [])].join(
    '\n\n',
  );
}
