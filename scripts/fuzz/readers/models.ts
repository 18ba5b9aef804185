import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stringifySorted } from '../../../src/files/json.ts';
import { isFolder } from '../../../src/files/regular-file.ts';
import type { NamedTensor } from '../../../src/files/safetensors.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { savePipelineFolder } from '../../../src/hub/pipeline-folder.ts';
import { simpleLoss } from '../../../src/losses/index.ts';
import {
  ConditionalDense,
  type DiffusionModel,
  exportModelGraph,
  initialParameters,
  UNet2DModel,
} from '../../../src/models/index.ts';
import { pipeline } from '../../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../../src/schedulers/index.ts';
import { Trainer } from '../../../src/trainers/index.ts';
import { changeSafetensorsHeader } from '../mutations/header.ts';
import type { Mutation } from '../mutations/mutation.ts';
import { changeField } from '../mutations/protobuf.ts';
import { changeJson, textMutations } from '../mutations/text.ts';
import { type Files, type FuzzedReader, onlyFile, single } from '../reader.ts';

/* What holds a model: ONNX files, pipeline folders, checkpoints. */

const dense = () => new ConditionalDense({ hidden_features: 4, num_hidden_layers: 1, num_train_timesteps: 10 });
const unet = () =>
  new UNet2DModel({
    sample_size: 4,
    in_channels: 1,
    out_channels: 1,
    block_out_channels: [2, 4],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 2,
    attention_head_dim: 2,
  });

const drawn = { num_inference_steps: 2, seed: 0 };
const fixtures = new URL('../../../test/fixtures/onnx-in/', import.meta.url);

function onnxOf(model: DiffusionModel): Uint8Array {
  return writeOnnx(exportModelGraph(model, initialParameters(model, 0)));
}

/** Ours, and one of torch.onnx.export. */
async function onnxExamples(): Promise<Files[]> {
  const exported = await readFile(new URL('odd-opset16.onnx', fixtures));
  return [single('model.onnx', onnxOf(unet())), single('model.onnx', onnxOf(unet())), single('model.onnx', exported)];
}

/** ONNX files that draw images. */
export const onnxDraw: FuzzedReader = {
  examples: onnxExamples,
  async read(folder) {
    const file = path.join(folder, await onlyFile(folder));
    const generate = await pipeline('unconditional-image-generation', file, { device: 'cpu' });
    try {
      await generate({ batch_size: 1, ...drawn });
    } finally {
      await generate.dispose();
    }
  },
  mutations: [changeField, changeField, ...textMutations],
};

const points = {
  data: Float32Array.from({ length: 16 }, (_, i) => Math.sin(i)),
  count: 8,
  dims: 2,
  name: 'eight',
  scaler: { kind: 'none', offset: [0, 0], scale: [1, 1] },
} as const;

function trainerOptions(folder: string) {
  return {
    args: {
      output_dir: path.join(folder, '.run'),
      max_steps: 2,
      save_steps: 1,
      per_device_train_batch_size: 4,
      device: 'cpu',
      report_to: ['jsonl'],
    },
    train_dataset: points,
    loss: simpleLoss(),
    noise_scheduler: new DDPMScheduler({ num_train_timesteps: 10 }),
  } as const;
}

/** ONNX files that are trained. */
export const onnxTrain: FuzzedReader = {
  examples: async () => [
    single('model.onnx', onnxOf(dense())),
    single('model.onnx', onnxOf(new ConditionalDense({ hidden_features: 3 }))),
  ],
  async read(folder) {
    const trainer = await Trainer.fromOnnx(path.join(folder, await onlyFile(folder)), trainerOptions(folder));
    await trainer.train();
    await trainer.exportOnnx(path.join(folder, '.trained.onnx'));
  },
  mutations: [changeField, changeField, ...textMutations],
};

/** The files below a folder, by their paths in it. */
async function filesBelow(folder: string): Promise<Files> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(
      paths.map(async (file) => [path.relative(folder, file), new Uint8Array(await readFile(file))] as const),
    ),
  );
}

/** What `write` writes into a folder. */
async function written(write: (folder: string) => Promise<unknown>): Promise<Files> {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-fuzz-example-'));
  try {
    await write(folder);
    return await filesBelow(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function savedPipeline(model: DiffusionModel, layout: 'nested' | 'flat', extraFiles: Record<string, string> = {}) {
  const weights = initialParameters(model, 0);
  const tensors = model.parameters.map(({ name, shape }): [string, NamedTensor] => [
    name,
    { dtype: 'F32', shape: [...shape], data: weights.get(name) ?? new Float32Array() },
  ]);
  return written((folder) =>
    savePipelineFolder(path.join(folder, 'pipeline'), {
      modelIndex: {
        _class_name: 'DDPMPipeline',
        scheduler: ['diffusers', 'DDPMScheduler'],
        unet: ['diffusers', String(model.config._class_name)],
      },
      unetConfig: JSON.parse(JSON.stringify(model.config)),
      unet: { onnx: onnxOf(model), weights: new Map(tensors) },
      schedulerConfig: new DDPMScheduler({ num_train_timesteps: 10 }).toConfig(),
      extraFiles,
      layout,
    }),
  );
}

/** The mutations of each kind of file in a folder of a model. */
const modelMutations: readonly Mutation[] = [changeJson, changeJson, ...textMutations].map((mutation) => {
  return (bytes, stream, file) => {
    if (file.name.endsWith('.onnx')) return changeField(bytes, stream, file);
    if (file.name.endsWith('.safetensors')) return changeSafetensorsHeader(bytes, stream, file);
    return mutation(bytes, stream, file);
  };
});

/** Folders that draw points. */
export const pointPipeline: FuzzedReader = {
  async examples() {
    const scaler = { kind: 'min-max', offset: [3, -1], scale: [0.5, 4] };
    const extra = { 'point_scaler.json': stringifySorted(scaler) };
    return [await savedPipeline(dense(), 'nested', extra), await savedPipeline(dense(), 'flat', extra)];
  },
  async read(folder) {
    const generate = await pipeline('unconditional-point-generation', path.join(folder, 'pipeline'), { device: 'cpu' });
    try {
      await generate({ batch_size: 3, ...drawn });
    } finally {
      await generate.dispose();
    }
  },
  mutations: modelMutations,
};

/** Folders that draw images. */
export const imagePipeline: FuzzedReader = {
  examples: async () => [await savedPipeline(unet(), 'nested'), await savedPipeline(unet(), 'flat')],
  async read(folder) {
    const generate = await pipeline('unconditional-image-generation', path.join(folder, 'pipeline'), { device: 'cpu' });
    try {
      await generate({ batch_size: 1, ...drawn });
    } finally {
      await generate.dispose();
    }
  },
  mutations: modelMutations,
};

const STATE = 'trainer_state.json';
const TENSORS = 'state.safetensors';

/** Checkpoints that are resumed from. */
export const checkpoint: FuzzedReader = {
  async examples() {
    return [
      await written(async (folder) => {
        await new Trainer({ ...trainerOptions(folder), model: dense() }).train();
      }),
    ];
  },
  async read(folder) {
    const trainer = new Trainer({ ...trainerOptions(folder), model: dense() });
    const newest = path.join(folder, '.run', 'checkpoint-2');
    await trainer.train({ resume_from_checkpoint: (await isFolder(newest)) ? newest : 'latest' });
  },
  mutations: modelMutations,
  seal(files) {
    for (const [name, bytes] of files) {
      const tensors = files.get(path.join(path.dirname(name), TENSORS));
      if (path.basename(name) === STATE && tensors) files.set(name, sealed(bytes, tensors));
    }
  },
};

/** A state with the checksums of what is there; as it is where it is no JSON object. */
function sealed(state: Uint8Array, tensors: Uint8Array): Uint8Array {
  try {
    const { sha256: _, ...head } = JSON.parse(Buffer.from(state).toString('utf8'));
    const digest = (content: string | Uint8Array) => createHash('sha256').update(content).digest('hex');
    Object.assign(head, { tensors_bytes: tensors.length, tensors_sha256: digest(tensors) });
    return Buffer.from(stringifySorted({ ...head, sha256: digest(stringifySorted(head)) }));
  } catch {
    return state;
  }
}
