import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { zipSync } from 'fflate';
import * as z from 'zod';
import { readSettings } from '../../../src/cli/options/command-options.ts';
import { modelOptions } from '../../../src/cli/options/new-model.ts';
import { trainingOptions } from '../../../src/cli/options/training-options.ts';
import { floatTensorInfos } from '../../../src/files/float-tensors.ts';
import { readJsonFile, stringifySorted } from '../../../src/files/json.ts';
import { npyBytes } from '../../../src/files/npy.ts';
import { type NamedTensor, readSafetensors, safetensorsChunks } from '../../../src/files/safetensors.ts';
import { readTorchFile, readTorchStateDict } from '../../../src/files/torch/file.ts';
import { readStatistics } from '../../../src/metrics/index.ts';
import { ConditionalDense, modelFromConfig, UNet2DModel } from '../../../src/models/index.ts';
import { DDIMScheduler, DDPMScheduler, schedulerFromConfig } from '../../../src/schedulers/index.ts';
import { insideZip } from '../mutations/containers.ts';
import { changeSafetensorsHeader } from '../mutations/header.ts';
import { changeJson, textMutations } from '../mutations/text.ts';
import { type FuzzedReader, onlyFile, single } from '../reader.ts';

/* Single files: tensors, statistics, configurations. */

function tensorFile(metadata?: Record<string, string>): Uint8Array {
  const tensors = new Map<string, NamedTensor>([
    ['layer.weight', { dtype: 'F32', shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
    ['layer.bias', { dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xbc00) }],
    ['scale', { dtype: 'BF16', shape: [], data: Uint16Array.of(0x3f80) }],
    ['wide', { dtype: 'F64', shape: [1, 1], data: Float64Array.of(-1) }],
  ]);
  return Buffer.concat([...safetensorsChunks(tensors, metadata)]);
}

/** Tensors in one file, or in shards behind an index. */
export const safetensors: FuzzedReader = {
  examples: async () => [
    single('model.safetensors', tensorFile()),
    single('model.safetensors', tensorFile({ format: 'pt' })),
    new Map([
      ['model.safetensors.index.json', Buffer.from('{"metadata": {}, "weight_map": {"scale": "a.safetensors"}}')],
      ['a.safetensors', tensorFile()],
    ]),
  ],
  async read(folder) {
    const name = await onlyFile(folder);
    if (name.endsWith('.index.json') || name === 'a.safetensors')
      await floatTensorInfos(path.join(folder, 'model.safetensors.index.json'));
    else await readSafetensors(path.join(folder, name));
  },
  mutations: [
    changeSafetensorsHeader,
    (bytes, stream, { name, other }) =>
      name.endsWith('.json') ? changeJson(bytes, stream, { name, other }) : undefined,
  ],
};

const torchFixtures = new URL('../../../test/fixtures/torch/', import.meta.url);

/** Weights of PyTorch, as zip archives and in the legacy format. */
export const torch: FuzzedReader = {
  async examples() {
    const names = (await readdir(torchFixtures)).filter((name) => name.endsWith('.pth')).sort();
    return Promise.all(
      names.map(async (name) => single(`${name.split('.')[0]}.pth`, await readFile(new URL(name, torchFixtures)))),
    );
  },
  async read(folder) {
    const name = await onlyFile(folder);
    if (name.startsWith('containers')) return readTorchFile(path.join(folder, name));
    for (const tensor of (await readTorchStateDict(path.join(folder, name))).values()) tensor.read();
  },
  mutations: [insideZip(), insideZip(), insideZip(textMutations), ...textMutations],
};

const moments = {
  'mu.npy': npyBytes(Float64Array.of(1, 2), [2]),
  'sigma.npy': npyBytes(Float64Array.of(2, 1, 1, 2), [2, 2]),
};

/** Mean and covariance of features. */
export const statistics: FuzzedReader = {
  examples: async () => [
    single('real.npz', zipSync({ ...moments, 'count.npy': npyBytes(Float64Array.of(50), [1]) }, { level: 0 })),
    single('real.npz', zipSync(moments, { level: 9 })),
  ],
  read: async (folder) => readStatistics(path.join(folder, await onlyFile(folder))),
  mutations: [insideZip(), insideZip(textMutations)],
};

const json = (value: object) => stringifySorted(JSON.parse(JSON.stringify(value)));

/** Configurations of models and schedulers. */
export const config: FuzzedReader = {
  examples: async () => [
    single('config.json', json(new UNet2DModel({ sample_size: 8 }).config)),
    single('config.json', json(new ConditionalDense().config)),
    single('scheduler_config.json', json(new DDPMScheduler().toConfig())),
    single('scheduler_config.json', json(new DDIMScheduler({ timestep_spacing: 'trailing' }).toConfig())),
  ],
  async read(folder) {
    const name = await onlyFile(folder);
    const value = await readJsonFile(path.join(folder, name), z.looseObject({}));
    if (name === 'config.json') return modelFromConfig(value).parameters.length;
    const scheduler = schedulerFromConfig(value);
    scheduler.setTimesteps(5);
    return scheduler;
  },
  mutations: [changeJson, changeJson, ...textMutations],
};

/** Files of `--config`. */
export const settings: FuzzedReader = {
  examples: async () => [
    single('run.yaml', 'learning_rate: 1e-4\nnum_train_epochs: 3\nper_device_train_batch_size: 16 # small\nseed: 7\n'),
    single('run.yaml', '{model: small, use_ema: true}\n'),
    single('run.yml', 'model: |\n  small\nlr_scheduler_type: &a cosine\n'),
    single('run.json', '{"learning_rate": 0.001, "max_steps": 10, "model_config": {"hidden_features": 8}}'),
  ],
  async read(folder) {
    return readSettings({ ...trainingOptions, ...modelOptions }, { config: path.join(folder, await onlyFile(folder)) });
  },
  mutations: [changeJson, ...textMutations, ...textMutations],
};
