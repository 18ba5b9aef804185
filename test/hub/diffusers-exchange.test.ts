import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MissingReferenceError, type Reference, requirePython, startReference } from '../../bench/harness.ts';
import type { ImageSet } from '../../src/datasets/index.ts';
import { ConfigError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { float32Tensor } from '../../src/files/float-tensors.ts';
import { readSafetensors, safetensorsChunks } from '../../src/files/safetensors.ts';
import { DIFFUSERS_VERSION } from '../../src/hub/pipeline-folder.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { UNet2DModel } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/trainer.ts';

const fixtures = fileURLToPath(new URL('../fixtures/unet/', import.meta.url));
const reference = fileURLToPath(new URL('../../bench/unet_reference.py', import.meta.url));
const WEIGHTS = 'diffusion_pytorch_model.safetensors';
const CASES = ['ddpm-style', 'default-style'] as const;

let root: string;
let torch: Reference | undefined;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-exchange-'));
  try {
    requirePython(['torch']);
    torch = startReference(reference);
  } catch (error) {
    if (!(error instanceof MissingReferenceError)) throw error;
    console.warn(`no torch: the comparison with the independent U-Net is skipped (${error.message})`);
  }
});
afterAll(async () => {
  torch?.close();
  await rm(root, { recursive: true, force: true });
});

/** A model that diffusers saved, with DDPM's scheduler, as google/ddpm-* are published: all in one folder. */
async function publishedFolder(name: (typeof CASES)[number]): Promise<string> {
  const folder = path.join(root, name);
  await mkdir(folder, { recursive: true });
  await cp(`${fixtures}${name}/config.json`, path.join(folder, 'config.json'));
  await cp(`${fixtures}${name}/${WEIGHTS}`, path.join(folder, WEIGHTS));
  const published = JSON.parse(await readFile(`${fixtures}published/google-ddpm.json`, 'utf8'));
  await writeFile(path.join(folder, 'model_index.json'), JSON.stringify(published.model_index));
  const { scheduler } = published.repositories['google/ddpm-cat-256'];
  await writeFile(path.join(folder, 'scheduler_config.json'), JSON.stringify(scheduler));
  return folder;
}

/** Images of random bytes in the size of the model. */
function images([channels = 3, height = 8, width = 8]: readonly number[]): ImageSet {
  const pixels = Uint8Array.from({ length: 8 * channels * height * width }, (_, i) => (i * 2654435761) >>> 24);
  const size = channels * height * width;
  return {
    name: 'noise',
    count: 8,
    channels: channels as 3,
    height,
    width,
    labels: undefined,
    skipped: [],
    fingerprint: '0'.repeat(64),
    pixels: (index) => pixels.subarray(index * size, (index + 1) * size),
  };
}

async function trainerFrom(folder: string, steps = 2): Promise<Trainer> {
  const model = await UNet2DModel.from_pretrained(folder);
  return new Trainer({
    model,
    args: {
      output_dir: path.join(folder, 'run'),
      max_steps: steps,
      per_device_train_batch_size: 2,
      learning_rate: 1e-3,
      device: 'cpu',
    },
    train_dataset: images(model.sampleShape),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: await DDPMScheduler.from_pretrained(folder),
  });
}

async function givenCase(name: string) {
  const tensors = await readSafetensors(`${fixtures}${name}/case.safetensors`);
  const [sample, output] = [tensors.get('sample'), tensors.get('output')];
  const timestep = Array.from(tensors.get('timestep')?.data ?? [], Number);
  return {
    sample: sample?.data as Float32Array,
    shape: sample?.shape ?? [],
    timestep,
    output: output?.data as Float32Array,
  };
}

async function ourOutput(folder: string, sample: Float32Array, timestep: readonly number[]) {
  const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  const output = await generate.model.predict(sample, timestep);
  await generate.dispose();
  return output;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a, (value, i) => Math.abs(value - (b[i] as number))).reduce((x, y) => Math.max(x, y), 0);
}

describe.each(CASES)('%s, a model that diffusers saved', (name) => {
  it('gives the output of diffusers here, and is saved again as it was', async () => {
    const folder = await publishedFolder(name);
    const given = await givenCase(name);
    expect(largestDifference(await ourOutput(folder, given.sample, given.timestep), given.output)).toBeLessThan(1e-4);

    const saved = path.join(root, `${name}-saved`);
    await (await trainerFrom(folder)).savePipeline(saved);
    // Names, shapes, types and values: the whole file, byte for byte.
    const bytes = await readFile(path.join(saved, 'unet', WEIGHTS));
    expect(bytes.equals(await readFile(`${fixtures}${name}/${WEIGHTS}`))).toBe(true);
    const config = JSON.parse(await readFile(path.join(saved, 'unet/config.json'), 'utf8'));
    const original = JSON.parse(await readFile(`${fixtures}${name}/config.json`, 'utf8'));
    // time_embedding_dim came with diffusers 0.32, mid_block_type with 0.33, with these defaults; 0.30.3 wrote the fixture.
    expect(config).toEqual({
      ...original,
      _diffusers_version: DIFFUSERS_VERSION,
      time_embedding_dim: null,
      mid_block_type: 'UNetMidBlock2D',
    });
    expect(JSON.parse(await readFile(path.join(saved, 'model_index.json'), 'utf8'))).toEqual({
      _class_name: 'DDPMPipeline',
      _diffusers_version: DIFFUSERS_VERSION,
      scheduler: ['diffusers', 'DDPMScheduler'],
      unet: ['diffusers', 'UNet2DModel'],
    });
    const scheduler = JSON.parse(await readFile(path.join(saved, 'scheduler/scheduler_config.json'), 'utf8'));
    const published = JSON.parse(await readFile(path.join(folder, 'scheduler_config.json'), 'utf8'));
    expect(scheduler).toMatchObject({ ...published, _diffusers_version: DIFFUSERS_VERSION });
  });

  it('is fine-tuned, and the saved folder loads strictly into an independent U-Net in torch', async (context) => {
    if (!torch) return context.skip('torch is not installed: apt-get install python3-torch');
    const folder = await publishedFolder(name);
    const { sample, shape, timestep, output } = await givenCase(name);
    const ask = async (where: string, weights = WEIGHTS) =>
      (await torch?.request<{ output: number[]; dtypes: string[] }>({
        command: 'predict',
        folder: where,
        weights,
        sample: [...sample],
        shape,
        timestep,
      })) ?? { output: [], dtypes: [] };
    // The U-Net in torch agrees with diffusers on the file of diffusers, so it stands for it on ours.
    expect(largestDifference((await ask(folder)).output, output)).toBeLessThan(1e-4);

    const trainer = await trainerFrom(folder);
    await trainer.train();
    const saved = path.join(root, `${name}-tuned`);
    await trainer.savePipeline(saved);
    const theirs = await ask(path.join(saved, 'unet'));
    expect(theirs.dtypes).toEqual(['torch.float32']);
    expect(largestDifference(theirs.output, await ourOutput(saved, sample, timestep))).toBeLessThan(1e-4);
    expect(largestDifference(theirs.output, output)).toBeGreaterThan(1e-2);

    const half = path.join(root, `${name}-half`);
    await trainer.savePipeline(half, { dtype: 'fp16', variant: 'fp16', layout: 'flat' });
    const inHalf = await ask(half, 'diffusion_pytorch_model.fp16.safetensors');
    expect(inHalf.dtypes).toEqual(['torch.float16']);
    await expect(ourOutput(half, sample, timestep)).rejects.toThrow(/pass variant: 'fp16'/);
    const generate = await pipeline('unconditional-image-generation', half, {
      device: 'cpu',
      variant: 'fp16',
    });
    expect(largestDifference(inHalf.output, await generate.model.predict(sample, timestep))).toBeLessThan(1e-4);
    await generate.dispose();
  });
});

describe('UNet2DModel.from_pretrained', () => {
  const stored = () => readSafetensors(`${fixtures}ddpm-style/${WEIGHTS}`);
  const initial = (model: UNet2DModel) =>
    model.parameters.map(({ name, init, shape }): [string, Float32Array] => {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
      init(undefined as never, values);
      return [name, values];
    });

  it('reads shards, bfloat16, and the old names of attention', async () => {
    const folder = await publishedFolder('ddpm-style');
    const old = (name: string) =>
      name
        .replace('.to_q.', '.query.')
        .replace('.to_k.', '.key.')
        .replace('.to_v.', '.value.')
        .replace('.to_out.0.', '.proj_attn.');
    const tensors = [...(await stored())].map(([name, { shape, data }], i) => {
      const dtype = i % 2 === 0 ? 'bf16' : 'fp32';
      return [old(name), float32Tensor(name, shape, data as Float32Array, dtype)] as const;
    });
    const weight_map: Record<string, string> = {};
    for (const [i, part] of [tensors.slice(0, 40), tensors.slice(40)].entries()) {
      const file = `diffusion_pytorch_model-0000${i + 1}-of-00002.safetensors`;
      await writeFileAtomic(path.join(folder, file), safetensorsChunks(new Map(part), { format: 'pt' }));
      for (const [name] of part) weight_map[name] = file;
    }
    expect(Object.keys(weight_map)).toContain('mid_block.attentions.0.proj_attn.weight');
    await rm(path.join(folder, WEIGHTS));
    await writeFile(path.join(folder, `${WEIGHTS}.index.json`), JSON.stringify({ metadata: {}, weight_map }));
    const values = new Map(initial(await UNet2DModel.from_pretrained(folder)));
    const original = await stored();
    expect([...values.keys()].sort()).toEqual([...original.keys()].sort());
    for (const [name, { data }] of original) {
      const loaded = values.get(name) as Float32Array;
      // bfloat16 keeps 8 bits: half a unit in the last place is 2^-9 of the value.
      for (const [i, value] of (data as Float32Array).entries())
        expect(Math.abs((loaded[i] as number) - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8);
    }
  });

  it('names what does not fit', async () => {
    const folder = path.join(root, 'wrong');
    await mkdir(folder);
    await cp(`${fixtures}ddpm-style/config.json`, path.join(folder, 'config.json'));
    const tensors = await stored();
    const bias = tensors.get('conv_in.bias');
    const weight = tensors.get('conv_out.weight');
    if (!bias || !weight) throw new Error('the fixture lacks its tensors');
    tensors.delete('conv_in.bias');
    tensors.set('extra.bias', bias);
    tensors.set('conv_out.weight', { ...weight, shape: [...weight.shape].reverse() });
    await writeFileAtomic(path.join(folder, WEIGHTS), safetensorsChunks(tensors));
    const loading = UNet2DModel.from_pretrained(folder);
    await expect(loading).rejects.toThrow(ConfigError);
    await expect(loading).rejects.toThrow(
      /lacks conv_in.bias; it has besides extra.bias; it has of another shape conv_out.weight \[3, 3, 16, 3\] instead of \[3, 16, 3, 3\]/,
    );
  });

  it('never opens a pickle', async () => {
    const folder = path.join(root, 'pickled');
    await mkdir(folder);
    await cp(`${fixtures}ddpm-style/config.json`, path.join(folder, 'config.json'));
    await writeFile(path.join(folder, 'diffusion_pytorch_model.bin'), 'pickle');
    for (const place of [folder, path.join(folder, 'diffusion_pytorch_model.bin'), 'owner/model.ckpt'])
      await expect(UNet2DModel.from_pretrained(place)).rejects.toThrow(/is a pickle.*safe_serialization=True/);
  });
});

describe('the published google/ddpm-* configurations', async () => {
  const { repositories } = JSON.parse(await readFile(`${fixtures}published/google-ddpm.json`, 'utf8'));
  it.each(Object.keys(repositories))('%s', (name) => {
    const { config, scheduler } = repositories[name];
    const model = UNet2DModel.fromConfig(config);
    const count = model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    // Ho et al. 2020, appendix B: 35.7 million parameters for CIFAR-10, 114 million for 256x256.
    expect(Math.round(count / 1e5)).toBe(name.includes('cifar10') ? 357 : 1137);
    expect(model.sampleShape).toEqual(name.includes('cifar10') ? [3, 32, 32] : [3, 256, 256]);
    expect(DDPMScheduler.fromConfig(scheduler).config).toMatchObject({
      variance_type: scheduler.variance_type,
      timestep_spacing: 'leading',
    });
    expect(DDIMScheduler.fromConfig(scheduler).config.beta_schedule).toBe('linear');
  });

  it("blocks named as diffusers' first versions named them", () => {
    const { config } = repositories['google/ddpm-cifar10-32'];
    const old = (types: string[]) => types.map((type) => type.replace(/^(Down|Up)/, 'UNetRes$1'));
    const model = UNet2DModel.fromConfig({
      ...config,
      down_block_types: old(config.down_block_types),
      up_block_types: old(config.up_block_types),
    });
    expect(model.config.down_block_types).toEqual(config.down_block_types);
  });
});
