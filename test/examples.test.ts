import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { runExample } from './run-example.ts';

const examples = fileURLToPath(new URL('../examples', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'iso-examples-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Short settings for each example, what it must print, and the files it must leave. */
const runs: Record<string, { args: string[]; variables?: NodeJS.ProcessEnv; prints: RegExp; writes: string[] }> = {
  'quickstart.ts': {
    args: ['--epochs', '2', '--samples', '1000', '--output', 'quick'],
    prints: /coverage +\d\.\d{4} +\d\.\d{4}/,
    writes: ['quick/scatter.png', 'quick/loss.svg', 'quick/ddpm/pipeline/unet/model.onnx', 'quick/iso/pipeline'],
  },
  'quickstart-images.ts': {
    args: ['--steps', '3', '--samples', '9', '--output', 'images'],
    // Without a network the small digits are taken.
    variables: { HF_HUB_OFFLINE: '1', XDG_CACHE_HOME: path.join(folder, 'cache') },
    prints:
      /'mnist-10k' has not been downloaded.*\nThe small digits [\s\S]*1437 images of 8x8[\s\S]*fid( +\d+\.\d{4}){3}[\s\S]*coverage( +\d\.\d{4}){3}/,
    writes: ['images/comparison.png', 'images/ddpm.png', 'images/iso.png', 'images/iso/pipeline/unet_ema/model.onnx'],
  },
  'latent-diffusion.ts': {
    args: ['--resolution', '16', '--autoencoder-steps', '2', '--steps', '2', '--samples', '4', '--output', 'latent'],
    prints: /1617 images of 16x16 to train on, 180 held out\nreconstruction .* PSNR \d[\s\S]*DDPM: \d+ s, \d+ s of/,
    writes: ['latent/latent-diffusion.png', 'latent/iso/pipeline/vqvae/config.json'],
  },
  'digit-features.ts': {
    args: ['--images', 'digits', '--resolution', '8', '--steps', '150', '--output', 'digits.onnx'],
    prints: /^digits.onnx: (9\d|8[5-9])\.\d\d % of 179 held-out images are told right/,
    writes: ['digits.onnx'],
  },
  'custom-data.ts': {
    args: ['', './runs/custom', '200'],
    prints: /200 steps.*\ndrew 1000 points/,
    writes: ['runs/custom/generated.csv', 'runs/custom/pipeline/point_scaler.json'],
  },
  'tfjs-engine.ts': {
    args: ['--steps', '5', '--output', 'tfjs'],
    prints: /^@tensorflow\/tfjs 4\S+, backend cpu[\s\S]*5 steps[\s\S]*drew 500 points/,
    writes: ['tfjs/pipeline/unet/model.onnx'],
  },
  'tfjs-loss.ts': { args: ['20'], prints: /step 20 {2}loss \d/, writes: [] },
  'own-logger.ts': {
    args: ['own-logger'],
    prints:
      /lambda 0.1, exit code 0\n20 loss [\s\S]*\n(30|60) precision recall density coverage[\s\S]*samples of step 60: \d+ bytes/,
    writes: ['own-logger/evaluation/step-0000060.png', 'own-logger/metrics.jsonl'],
  },
  'lambda-on-the-plane.ts': {
    args: ['--epochs', '2', '--samples', '500', '--output', 'lambda'],
    prints: /λ = 0 +precision \d\.\d{3} [\s\S]*λ = 0\.5 +precision/,
    writes: ['lambda/points.png', 'lambda/metrics.svg', 'lambda/pipeline/unet/isotropy.json'],
  },
  'drop-in-loss.ts': { args: [], prints: /lambda 0.3 {2}step 60/, writes: [] },
};

describe('every example runs', () => {
  it('and every file of examples/ is among them', () => {
    expect(readdirSync(examples).sort()).toEqual(Object.keys(runs).sort());
  });

  it.each(Object.entries(runs))(
    '%s',
    async (file, { args, variables, prints, writes }) => {
      expect(await runExample(path.join(examples, file), args, folder, variables)).toMatch(prints);
      for (const written of writes) expect(existsSync(path.join(folder, written)), written).toBe(true);
    },
    240_000,
  );

  it('tfjs-engine.ts takes tfjs-node, where tfjs-node-gpu is installed without its CUDA libraries', async () => {
    const modules = path.join(folder, 'modules');
    const install = (name: string, source: string) => {
      mkdirSync(path.join(modules, '@tensorflow', name), { recursive: true });
      writeFileSync(path.join(modules, '@tensorflow', name, 'index.js'), source);
    };
    install('tfjs-node-gpu', "throw new Error('libcudart.so.11.0: cannot open shared object file')");
    install(
      'tfjs-node',
      `module.exports = require(${JSON.stringify(fileURLToPath(import.meta.resolve('@tensorflow/tfjs/dist/tf.node.js')))})`,
    );
    const args = ['--steps', '2', '--output', 'tfjs-node'];
    const printed = await runExample(path.join(examples, 'tfjs-engine.ts'), args, folder, { NODE_PATH: modules });
    expect(printed).toMatch(/tfjs-node-gpu does not load: libcudart.so.11.0/);
    expect(printed).toMatch(/^@tensorflow\/tfjs-node 4\S+, backend [\s\S]*2 steps/m);
  }, 120_000);
});
