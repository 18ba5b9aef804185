import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, describe, expect, it } from 'vitest';
import {
  AutoencoderKL,
  autoencoders,
  type ImageTensor,
  loadAutoencoder,
  openAutoencoder,
  saveAutoencoder,
  VQModel,
} from '../../src/autoencoders/index.ts';
import { ConfigError, FileFormatError, InvalidArgumentError, NonFiniteWeightsError } from '../../src/errors.ts';
import { type NamedTensor, readSafetensors, safetensorsChunks } from '../../src/files/safetensors.ts';
import { initialParameters } from '../../src/models/model.ts';
import { noise, relativeError } from './cases.ts';

const fixtures = new URL('../fixtures/vae/', import.meta.url).pathname;
const folder = mkdtempSync(path.join(tmpdir(), 'iso-autoencoder-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => path.join(folder, name);
const cpu = { device: 'cpu' } as const;
const image: ImageTensor = { data: noise(3 * 16 * 16, 3), shape: [1, 3, 16, 16] };

describe('saveAutoencoder', () => {
  it.each(['kl-small', 'vq-small'])('saves %s as a folder that opens with the same numbers', async (name) => {
    const { autoencoder, weights } = await openAutoencoder(`${fixtures}${name}`);
    await saveAutoencoder(at(name), autoencoder, weights);
    expect(readdirSync(at(name)).sort()).toEqual([
      ...['config.json', 'decoder_model.onnx', 'diffusion_pytorch_model.safetensors', 'encoder_model.onnx'],
    ]);
    const { _diffusers_version, ...saved } = JSON.parse(readFileSync(path.join(at(name), 'config.json'), 'utf8'));
    const { _diffusers_version: _, ...original } = JSON.parse(readFileSync(`${fixtures}${name}/config.json`, 'utf8'));
    expect(saved).toEqual(original);
    const again = await openAutoencoder(at(name));
    expect(again.weights).toEqual(weights);

    const session = await loadAutoencoder(at(name), cpu);
    const latents = await session.encode(image);
    const decoded = await session.decode(latents);
    await session.dispose();
    // The ONNX files compute the same, by names that optimum uses.
    const encoder = await InferenceSession.create(path.join(at(name), 'encoder_model.onnx'));
    const decoder = await InferenceSession.create(path.join(at(name), 'decoder_model.onnx'));
    const { latent_parameters, latent_sample } = await encoder.run({ sample: new Tensor(image.data, image.shape) });
    const values = (latent_parameters ?? latent_sample)?.data as Float32Array;
    // Up to rounding: of a file as it stands, onnxruntime merges other nodes.
    expect(relativeError(values.subarray(0, latents.data.length), latents.data)).toBeLessThan(1e-6);
    const { sample } = await decoder.run({ latent_sample: new Tensor(latents.data, latents.shape) });
    expect(relativeError(sample?.data as Float32Array, decoded.data)).toBeLessThan(1e-6);
    // Each holds the weights of its half alone.
    const sizes = ['encoder_model.onnx', 'decoder_model.onnx'].map(
      (file) => readFileSync(path.join(at(name), file)).length,
    );
    const all = readFileSync(path.join(at(name), 'diffusion_pytorch_model.safetensors')).length;
    for (const size of sizes) expect(size).toBeLessThan(0.9 * all);
  });

  it('rounds weights to float16, under the name of a variant', async () => {
    const model = new VQModel({ block_out_channels: [32], sample_size: 8 });
    await saveAutoencoder(at('half'), model, initialParameters(model, 0), { dtype: 'fp16', variant: 'fp16' });
    await expect(openAutoencoder(at('half'))).rejects.toThrow("pass variant: 'fp16'");
    const { weights } = await openAutoencoder(at('half'), { variant: 'fp16' });
    expect(
      relativeError(weights.get('encoder.conv_in.weight'), [
        ...(initialParameters(model, 0).get('encoder.conv_in.weight') ?? []),
      ]),
    ).toBeLessThan(1e-3);
  });

  it('refuses weights that are not finite, of another model, or a folder of something else', async () => {
    const model = new AutoencoderKL({ block_out_channels: [32], sample_size: 8 });
    const weights = initialParameters(model, 0);
    await expect(saveAutoencoder(at('new'), model, new Map())).rejects.toThrow(InvalidArgumentError);
    weights.get('encoder.conv_in.bias')?.fill(Number.NaN);
    await expect(saveAutoencoder(at('new'), model, weights)).rejects.toThrow(NonFiniteWeightsError);
    mkdirSync(at('notes'));
    writeFileSync(path.join(at('notes'), 'notes.txt'), 'mine');
    const good = initialParameters(model, 0);
    await expect(saveAutoencoder(at('notes'), model, good)).rejects.toThrow('holds files but no config.json');
    expect(readdirSync(folder)).not.toContain('new');
  });
});

describe('openAutoencoder', () => {
  it.each(['vae', 'vqvae'])('opens the component %s of a pipeline', async (component) => {
    const pipeline = at(`pipeline-${component}`);
    cpSync(`${fixtures}kl-small`, path.join(pipeline, component), { recursive: true });
    writeFileSync(path.join(pipeline, 'model_index.json'), '{}');
    expect((await openAutoencoder(pipeline)).autoencoder).toBeInstanceOf(AutoencoderKL);
  });

  it('reads keys of attention as diffusers named them before 0.15', async () => {
    const old = at('old');
    cpSync(`${fixtures}kl-small`, old, { recursive: true });
    const file = path.join(old, 'diffusion_pytorch_model.safetensors');
    const tensors = await readSafetensors(file);
    const names = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
    const renamed = [...tensors].map(([name, tensor]): [string, NamedTensor] => [
      Object.entries(names).reduce((text, [present, before]) => text.replace(`.${present}.`, `.${before}.`), name),
      tensor,
    ]);
    expect(renamed.filter(([name]) => name.includes('.query.'))).toHaveLength(4);
    writeFileSync(file, Buffer.concat([...safetensorsChunks(new Map(renamed), {})]));
    expect((await openAutoencoder(old)).weights).toEqual((await openAutoencoder(`${fixtures}kl-small`)).weights);
  });

  it('opens a class of its own once it is registered', async () => {
    const model = new AutoencoderKL({ block_out_channels: [32], sample_size: 8 });
    await saveAutoencoder(at('own'), model, initialParameters(model, 0));
    const config = path.join(at('own'), 'config.json');
    writeFileSync(config, readFileSync(config, 'utf8').replace('"AutoencoderKL"', '"OwnAutoencoder"'));
    await expect(openAutoencoder(at('own'))).rejects.toThrow(ConfigError);
    autoencoders.register('OwnAutoencoder', {
      fromConfig: (json) => AutoencoderKL.fromConfig({ ...(json as object), _class_name: 'AutoencoderKL' }),
    });
    expect((await openAutoencoder(at('own'))).autoencoder).toBeInstanceOf(AutoencoderKL);
  });

  it('says what a folder lacks', async () => {
    mkdirSync(at('empty'));
    await expect(openAutoencoder(at('empty'))).rejects.toThrow(FileFormatError);
    await expect(openAutoencoder(at('empty'))).rejects.toThrow('holds no autoencoder: there is no ');
    mkdirSync(at('pickled'));
    cpSync(`${fixtures}kl-small/config.json`, path.join(at('pickled'), 'config.json'));
    writeFileSync(path.join(at('pickled'), 'diffusion_pytorch_model.bin'), '');
    await expect(openAutoencoder(at('pickled'))).rejects.toThrow('is a pickle');
    // @ts-expect-error: not an option
    await expect(openAutoencoder(at('empty'), { revison: 'main' })).rejects.toThrow("did you mean 'revision'?");
  });

  it('refuses weights of another config', async () => {
    const other = at('other');
    cpSync(`${fixtures}kl-small`, other, { recursive: true });
    const config = path.join(other, 'config.json');
    writeFileSync(config, readFileSync(config, 'utf8').replace('"layers_per_block": 1', '"layers_per_block": 2'));
    await expect(openAutoencoder(other)).rejects.toThrow(/does not fit the AutoencoderKL of its config: it lacks/);
  });
});
