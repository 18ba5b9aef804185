/*
 * What `npm run test:cuda` runs at batch 128, each in a process of its own: steps of training, or of drawing images. The models
 * are those of a user with a GPU; samples are zeros, because the fake computes nothing.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { NonFiniteLossError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { convTranspose2d } from '../../src/graph/ops/conv/conv.ts';
import { loop } from '../../src/graph/ops/index.ts';
import { elementCount } from '../../src/graph/types.ts';
import { hybridLoss, isoLoss } from '../../src/losses/index.ts';
import {
  ConditionalDense,
  exportModel,
  initialParameters,
  OnnxModel,
  UNet2DModel,
  type UNet2DOptions,
  unet2DPreset,
} from '../../src/models/index.ts';
import { type DiffusionModel, initialVector, learnsVariance } from '../../src/models/model.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import { Session } from '../../src/runtime/session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import type { Batches } from '../../src/trainers/data/prefetched-batches.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../src/trainers/training-arguments.ts';

const BATCH = 128;

/** Runs so many steps, and returns how many bytes each reports to JavaScript. */
export type Steps = (count: number) => Promise<number>;

export type CaseName =
  | 'unet'
  | 'accumulation'
  | 'checkpointing'
  | 'classes'
  | 'learned-variance'
  | 'whole-rows'
  | 'points'
  | 'lion'
  | 'sgd'
  | 'without-tf32'
  | 'fine-tuning'
  | 'fine-tuning-torch'
  | 'fp16'
  | 'sampling'
  | 'sampling-torch'
  | 'uneven';

/** @param folder for files. */
export const cases: Readonly<Record<CaseName, (folder: string) => Promise<Steps>>> = {
  unet: () => training(unet()),
  accumulation: () => training(unet(), { gradient_accumulation_steps: 2 }),
  checkpointing: () => training(unet(), { gradient_checkpointing: true }),
  classes: () => training(unet({ num_class_embeds: 10 })),
  fp16: () => training(unet(), { mixed_precision: 'fp16' }),
  'learned-variance': () => training(unet({ out_channels: 6 })),
  'whole-rows': () => training(unetOfWholeRows()),
  points: () => training(new ConditionalDense()),
  lion: () => training(new ConditionalDense(), { optim: 'lion', weight_decay: 0.1, max_grad_norm: 1 }),
  sgd: () => training(new ConditionalDense(), { optim: 'sgd', momentum: 0.9, nesterov: true, max_grad_norm: 1 }),
  'without-tf32': () => {
    configureRuntime({ tf32: false });
    return training(new ConditionalDense());
  },
  'fine-tuning': () => training(OnnxModel.fromBytes(exported(unet()))),
  'fine-tuning-torch': () => training(OnnxModel.fromBytes(exportOfTorch())),
  sampling: (folder) => sampling(exported(unet()), folder),
  'sampling-torch': (folder) => sampling(exportOfTorch(), folder),
  uneven: () => refused(),
};

/** The U-Net of Ho et al. (2020) for 32x32, 35.7 million parameters. */
export function unet(options: UNet2DOptions = {}): UNet2DModel {
  return new UNet2DModel(unet2DPreset('ddpm-cifar10', options));
}

/**
 * A U-Net whose tensors all fill whole rows of the flat vectors. Without the gap of the last bias, onnxruntime would make one
 * Split of the Slices that cut the parameters.
 */
function unetOfWholeRows(): UNet2DModel {
  return new UNet2DModel({
    sample_size: 4,
    in_channels: 128,
    out_channels: 128,
    block_out_channels: [128, 256],
    down_block_types: ['DownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
  });
}

function exported(model: DiffusionModel): Uint8Array {
  return exportModel(model, initialParameters(model, 0));
}

/** A small U-Net as torch.onnx.export writes it, with the shapes of its tensors computed by nodes. */
function exportOfTorch(): Uint8Array {
  return readFileSync(path.join(process.cwd(), 'test/fixtures/onnx-in/unet-opset14-scalar.onnx'));
}

async function training(
  model: DiffusionModel,
  { gradient_accumulation_steps = 1, ...others }: Partial<TrainingArguments> = {},
): Promise<Steps> {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: BATCH / gradient_accumulation_steps,
    gradient_accumulation_steps,
    ...others,
    use_ema: true,
  });
  const base = isoLoss({ lambda: 0.05 });
  const loss = learnsVariance(model) ? hybridLoss({ base }) : base;
  const noise_scheduler = new DDPMScheduler(learnsVariance(model) ? { variance_type: 'learned_range' } : {});
  const initial = initialVector(model, 0);
  const engine = await Engine.create(
    stepSettings({ model, loss, noise_scheduler }, args),
    { device: 'cuda' },
    new Map([
      ['parameters', initial],
      ['ema', initial],
    ]),
    zeros(model),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
  );
  return async (count) => {
    // The fake leaves the scale of a loss in float16 at zero, which an engine refuses after its steps.
    await engine.run(0, count).catch((error: unknown) => {
      if (!(error instanceof NonFiniteLossError)) throw error;
    });
    return engine.reported.length * Float32Array.BYTES_PER_ELEMENT;
  };
}

/** Drawing batches would take more of the host's time than all else. */
export function zeros({ sampleShape, classCount }: DiffusionModel, batch = BATCH): Batches {
  const size = elementCount(sampleShape);
  return {
    steps: (_first, count) => ({
      clean: new Float32Array(count * batch * size),
      noise: new Float32Array(count * batch * size),
      timestep: new Int32Array(count * batch),
      class_labels: classCount ? new Int32Array(count * batch) : undefined,
    }),
    dropoutNumbers: (_place, target) => target,
  };
}

/** Draws by the user's own way, `pipeline()`. */
async function sampling(model: Uint8Array, folder: string): Promise<Steps> {
  const file = path.join(folder, 'model.onnx');
  await writeFileAtomic(file, model);
  const generate = await pipeline('unconditional-image-generation', file, { device: 'cuda' });
  return async (num_inference_steps) => {
    for await (const _images of generate.batches({ count: BATCH, batch_size: BATCH, num_inference_steps }));
    return 0;
  };
}

/** A Loop with a convolution that cuda has no kernel for. */
async function refused(): Promise<Steps> {
  const graph = new Graph('uneven');
  const x = graph.input('x', 'float32', [1, 1, 4, 4]);
  const weight = graph.constant('float32', [1, 1, 3, 3], new Float32Array(9));
  const { state } = loop(graph.input('trips', 'int64', []), [x], (_body, _trip, [value = x]) => ({
    state: [convTranspose2d(value, weight, undefined, { pads: [0, 0, 2, 2] })],
  }));
  graph.output('y', state[0] ?? x);
  await Session.create(writeOnnx(graph), 'cuda', { hasBodies: true });
  throw new Error('onnxruntime has the kernel now');
}
