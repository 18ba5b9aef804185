import type { Scaler } from '../datasets/points.ts';
import { stringifySorted } from '../hub/json-file.ts';
import { type ModelCardFacts, modelCard } from '../hub/model-card.ts';
import { savePipelineFolder } from '../hub/pipeline-folder.ts';
import type { NamedTensor } from '../hub/safetensors.ts';
import { type DiffusionModel, exportModel } from '../models/model.ts';
import type { DDPMScheduler } from '../schedulers/ddpm.ts';

export interface TrainedPipeline {
  readonly model: DiffusionModel;
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** The moving average of the weights, saved beside them as `unet_ema`. */
  readonly averagedWeights?: ReadonlyMap<string, Float32Array>;
  readonly scheduler: DDPMScheduler;
  /** How points were scaled, which the pipeline undoes. */
  readonly scaler?: Scaler;
  readonly card: ModelCardFacts;
}

/** Classes of ours that diffusers has under the same name. */
const DIFFUSERS_CLASSES = new Set(['UNet2DModel']);

/** Exports the model to ONNX and writes it with its weights, scheduler and scaling as a pipeline folder. */
export async function saveTrainedPipeline(
  directory: string,
  { model, weights, averagedWeights, scheduler, scaler, card }: TrainedPipeline,
): Promise<void> {
  const className = model.config._class_name;
  await savePipelineFolder(directory, {
    modelIndex: {
      _class_name: 'DDPMPipeline',
      scheduler: ['diffusers', 'DDPMScheduler'],
      unet: [DIFFUSERS_CLASSES.has(className) ? 'diffusers' : 'iso_diffusion', className],
    },
    unetConfig: { ...model.config },
    unet: exported(model, weights),
    unetEma: averagedWeights && exported(model, averagedWeights),
    schedulerConfig: { ...scheduler.toConfig() },
    extraFiles: {
      'README.md': modelCard(card),
      ...(scaler ? { 'point_scaler.json': scalerJson(scaler) } : {}),
    },
  });
}

function scalerJson({ kind, offset, scale }: Scaler): string {
  return stringifySorted({ kind, offset: [...offset], scale: [...scale] });
}

function exported(model: DiffusionModel, weights: ReadonlyMap<string, Float32Array>) {
  const tensors = model.parameters.map(({ name, shape }): [string, NamedTensor] => [
    name,
    { dtype: 'F32', shape: [...shape], data: weights.get(name) ?? new Float32Array() },
  ]);
  return { onnx: exportModel(model, weights), weights: new Map(tensors) };
}
