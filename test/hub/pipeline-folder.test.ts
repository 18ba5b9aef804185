import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError, FileFormatError, InvalidArgumentError } from '../../src/errors.ts';
import { thisProcess } from '../../src/files/process-identity.ts';
import { type NamedTensor, readSafetensors } from '../../src/files/safetensors.ts';
import { readPipelineFolder } from '../../src/hub/open-pretrained.ts';
import { type PipelineParts, savePipelineFolder } from '../../src/hub/pipeline-folder.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'iso-pipeline-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const weights = new Map<string, NamedTensor>([['w', { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }]]);

function parts(changes: Partial<PipelineParts> = {}): PipelineParts {
  return {
    modelIndex: {
      _class_name: 'DDPMPipeline',
      _diffusers_version: '0.30.3',
      scheduler: ['diffusers', 'DDPMScheduler'],
      unet: ['iso_diffusion', 'ConditionalDense'],
    },
    unetConfig: { _class_name: 'ConditionalDense', hidden: 128 },
    unet: { onnx: Uint8Array.of(8, 8), weights },
    schedulerConfig: { _class_name: 'DDPMScheduler', beta_start: 0.0001 },
    ...changes,
  };
}

describe('savePipelineFolder', () => {
  it('writes the files of diffusers with their contents, and extra files', async () => {
    const dir = join(root, 'runs/pipeline');
    await savePipelineFolder(dir, parts({ extraFiles: { 'point_scaler.json': '{}', 'docs/card.md': 'x' } }));
    const files = (await readdir(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    expect(files.map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1)).sort()).toEqual([
      'docs/card.md',
      'model_index.json',
      'point_scaler.json',
      'scheduler/scheduler_config.json',
      'unet/config.json',
      'unet/diffusion_pytorch_model.safetensors',
      'unet/model.onnx',
    ]);
    expect(await readFile(join(dir, 'unet/config.json'), 'utf8')).toBe(
      '{\n  "_class_name": "ConditionalDense",\n  "hidden": 128\n}\n',
    );
    expect([...(await readFile(join(dir, 'unet/model.onnx')))]).toEqual([8, 8]);
    const weights = await readSafetensors(join(dir, 'unet/diffusion_pytorch_model.safetensors'));
    expect(weights.get('w')?.data).toEqual(Float32Array.of(1, 2));
    expect(await readdir(join(root, 'runs'))).toEqual(['pipeline']);
  });

  it('keeps averaged weights beside the raw ones, with the same config', async () => {
    const dir = join(root, 'averaged');
    const unetEma = { onnx: Uint8Array.of(7), weights };
    await savePipelineFolder(dir, parts({ unetEma }));
    const { emaPaths } = await readPipelineFolder(dir);
    expect(emaPaths).toEqual({
      onnx: join(dir, 'unet_ema/model.onnx'),
      weights: join(dir, 'unet_ema/diffusion_pytorch_model.safetensors'),
    });
    expect(await readFile(join(dir, 'unet_ema/config.json'))).toEqual(await readFile(join(dir, 'unet/config.json')));
    await savePipelineFolder(dir, parts());
    expect((await readPipelineFolder(dir)).emaPaths).toBeUndefined();
  });

  it("writes and reads a flat folder with a variant's name, averaged weights beside", async () => {
    const dir = join(root, 'flat');
    const unetEma = { onnx: () => Uint8Array.of(7), weights };
    await savePipelineFolder(dir, parts({ layout: 'flat', variant: 'fp16', unetEma }));
    expect((await readdir(dir, { recursive: true })).sort()).toEqual([
      'config.json',
      'diffusion_pytorch_model.fp16.safetensors',
      'model.onnx',
      'model_index.json',
      'scheduler_config.json',
      'unet_ema',
      'unet_ema/config.json',
      'unet_ema/diffusion_pytorch_model.fp16.safetensors',
      'unet_ema/model.onnx',
    ]);
    const { schedulerConfig, paths, emaPaths } = await readPipelineFolder(dir, { variant: 'fp16' });
    expect(schedulerConfig).toEqual(parts().schedulerConfig);
    expect(paths.weights).toBe(join(dir, 'diffusion_pytorch_model.fp16.safetensors'));
    expect(await readFile(emaPaths?.onnx ?? '')).toEqual(Buffer.of(7));
    await expect(readPipelineFolder(dir)).rejects.toThrow(/pass variant: 'fp16'/);
    const escaping = parts({ variant: '../../escape' });
    await expect(savePipelineFolder(join(root, 'p'), escaping)).rejects.toThrow(InvalidArgumentError);
  });

  it('replaces an older pipeline as a whole, and fills an empty folder', async () => {
    const dir = join(root, 'pipeline');
    await mkdir(dir);
    await savePipelineFolder(dir, parts({ extraFiles: { 'old.txt': 'old' } }));
    await savePipelineFolder(dir, parts({ unet: { onnx: Uint8Array.of(9), weights } }));
    expect((await readdir(dir)).sort()).toEqual(['model_index.json', 'scheduler', 'unet']);
    expect([...(await readFile(join(dir, 'unet/model.onnx')))]).toEqual([9]);
  });

  it('refuses a folder with other files and a file, and leaves them alone', async () => {
    await writeFile(join(root, 'thesis.tex'), 'precious');
    await expect(savePipelineFolder(root, parts())).rejects.toThrow(InvalidArgumentError);
    await expect(savePipelineFolder(join(root, 'thesis.tex'), parts())).rejects.toThrow(/is a file/);
    expect(await readdir(root)).toEqual(['thesis.tex']);
    expect(await readFile(join(root, 'thesis.tex'), 'utf8')).toBe('precious');
  });

  it.each([
    '../outside.txt',
    '/etc/absolute',
    'a/../../outside',
    'a\\..\\outside',
    'C:outside',
    'a//b',
    './a',
    '',
    'nul\0byte',
    'model_index.json',
    'unet/model.onnx',
  ])('refuses the extra file %j before anything is written', async (path) => {
    const saving = savePipelineFolder(join(root, 'p'), parts({ extraFiles: { [path]: 'x' } }));
    await expect(saving).rejects.toThrow(InvalidArgumentError);
    expect(await readdir(root)).toEqual([]);
  });

  it('keeps the older pipeline when a new part cannot be written', async () => {
    const dir = join(root, 'pipeline');
    await savePipelineFolder(dir, parts());
    const wrong = parts({ schedulerConfig: { _class_name: 'DDPMScheduler', beta_start: Number.NaN } });
    await expect(savePipelineFolder(dir, wrong)).rejects.toThrow(InvalidArgumentError);
    // "unet" cannot be a file and a folder: this fails after the first files were written.
    const clash = parts({ extraFiles: { 'unet/config.json/x': 'x' } });
    await expect(savePipelineFolder(dir, clash)).rejects.toThrow();
    expect((await readPipelineFolder(dir)).schedulerConfig.beta_start).toBe(0.0001);
    expect(await readdir(root)).toEqual(['pipeline']);
  });

  it('refuses malformed parts', async () => {
    const modelIndex = {
      ...parts().modelIndex,
      unet: ['diffusers'],
    } as unknown as PipelineParts['modelIndex'];
    await expect(savePipelineFolder(join(root, 'p'), parts({ modelIndex }))).rejects.toThrow(InvalidArgumentError);
  });
});

describe('readPipelineFolder', () => {
  it('returns the configurations and the paths', async () => {
    const dir = join(root, 'pipeline');
    await savePipelineFolder(dir, parts());
    expect(await readPipelineFolder(dir)).toEqual({
      dir,
      unetConfig: parts().unetConfig,
      schedulerConfig: parts().schedulerConfig,
      paths: {
        onnx: join(dir, 'unet/model.onnx'),
        weights: join(dir, 'unet/diffusion_pytorch_model.safetensors'),
      },
    });
  });

  it("reads a folder as diffusers saves it, with other components and without ONNX, if ONNX isn't required", async () => {
    const dir = join(root, 'pipeline');
    await savePipelineFolder(dir, parts());
    await rm(join(dir, 'unet/model.onnx'));
    const index = { ...parts().modelIndex, safety_checker: [null, null], requires: false };
    await writeFile(join(dir, 'model_index.json'), JSON.stringify(index));
    expect((await readPipelineFolder(dir, { require: ['weights'] })).unetConfig).toEqual(parts().unetConfig);
    await expect(readPipelineFolder(dir)).rejects.toThrow(/lacks its file .*model\.onnx/);
  });

  it('says where what the model draws is decoded', async () => {
    const dir = join(root, 'pipeline');
    await savePipelineFolder(dir, parts());
    const write = (others: object) =>
      writeFile(join(dir, 'model_index.json'), JSON.stringify({ ...parts().modelIndex, ...others }));
    await write({ vae: [null, null], _class_name: ['my_pipeline', 'MyPipeline'] });
    expect((await readPipelineFolder(dir)).autoencoder).toBeUndefined();
    await write({ vqvae: ['diffusers', 'VQModel'] });
    await expect(readPipelineFolder(dir)).rejects.toThrow(/names the component 'vqvae'.*vqvae is missing/);
    for (const name of ['vqvae', 'vae']) {
      await write({ [name]: ['diffusers', 'AutoencoderKL'] });
      await mkdir(join(dir, name));
      expect((await readPipelineFolder(dir)).autoencoder).toBe(join(dir, name));
    }
  });

  it.each([
    ['model_index.json', ConfigError],
    ['unet/config.json', ConfigError],
    ['scheduler/scheduler_config.json', ConfigError],
    ['unet/model.onnx', FileFormatError],
    ['unet/diffusion_pytorch_model.safetensors', FileFormatError],
  ])('names a missing %s', async (path, errorClass) => {
    const dir = join(root, 'pipeline');
    await savePipelineFolder(dir, parts());
    await rm(join(dir, path));
    const reading = readPipelineFolder(dir);
    await expect(reading).rejects.toThrow(errorClass);
    await expect(reading).rejects.toThrow(path);
  });

  it('tells where an interrupted save left the former content', async () => {
    const dir = join(root, 'pipeline');
    await expect(readPipelineFolder(dir)).rejects.toThrow(FileFormatError);
    await savePipelineFolder(dir, parts());
    const left = join(root, `.tmp-pipeline.old-${thisProcess().machine}-${process.pid}-0123456789ab`);
    await rename(dir, left);
    await expect(readPipelineFolder(dir)).rejects.toThrow(left);
  });

  it('600 bit flips and truncations of its JSON files: a ConfigError or a folder that fits the schema', async () => {
    const dir = join(root, 'pipeline');
    await savePipelineFolder(dir, parts());
    const stream = new RandomStream(21);
    let rejected = 0;
    for (const name of ['model_index.json', 'unet/config.json', 'scheduler/scheduler_config.json']) {
      const original = await readFile(join(dir, name));
      for (let i = 0; i < 200; i++) {
        const bytes = Buffer.from(original);
        const position = stream.integer(bytes.length);
        bytes[position] = (bytes[position] as number) ^ (1 << stream.integer(8));
        await writeFile(join(dir, name), i % 4 === 0 ? original.subarray(0, position) : bytes);
        try {
          const folder = await readPipelineFolder(dir);
          expect(typeof folder.unetConfig._class_name).toBe('string');
          const index = JSON.parse(await readFile(join(dir, 'model_index.json'), 'utf8'));
          expect(typeof index._class_name).toBe('string');
          expect(index.unet).toHaveLength(2);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
          rejected++;
        }
      }
      await writeFile(join(dir, name), original);
    }
    expect(rejected).toBeGreaterThan(200);
  });
});
