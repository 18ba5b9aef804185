import type { Scaler } from '../datasets/points.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { stringifySorted } from '../hub/json-file.ts';
import { savePipelineFolder } from '../hub/pipeline-folder.ts';
import type { NamedTensor } from '../hub/safetensors.ts';
import { type DiffusionModel, exportModelGraph } from '../models/model.ts';
import type { DDPMScheduler } from '../schedulers/ddpm.ts';

export interface TrainedPipeline {
  readonly model: DiffusionModel;
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly scheduler: DDPMScheduler;
  /** How the data was scaled; the pipeline undoes it. */
  readonly scaler: Scaler;
}

/** Exports the model to ONNX and writes it with its weights, scheduler and scaling as a pipeline folder. */
export async function saveTrainedPipeline(
  directory: string,
  { model, weights, scheduler, scaler }: TrainedPipeline,
): Promise<void> {
  const className = model.config._class_name;
  const tensors = new Map<string, NamedTensor>();
  for (const { name, shape } of model.parameters) {
    tensors.set(name, { dtype: 'F32', shape: [...shape], data: weights.get(name) ?? new Float32Array() });
  }
  await savePipelineFolder(directory, {
    modelIndex: {
      _class_name: 'DDPMPipeline',
      scheduler: ['diffusers', 'DDPMScheduler'],
      unet: ['iso_diffusion', className],
    },
    unetConfig: { ...model.config },
    onnx: writeOnnx(exportModelGraph(model, weights)),
    weights: tensors,
    schedulerConfig: { ...scheduler.toConfig() },
    extraFiles: {
      'point_scaler.json': stringifySorted({
        kind: scaler.kind,
        offset: [...scaler.offset],
        scale: [...scaler.scale],
      }),
    },
  });
}
