import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AutoModel, env, Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { FileFormatError, HubError, InvalidArgumentError } from '../../src/errors.ts';
import { zipFolder } from '../../src/files/zip.ts';
import type { PipelineSource } from '../../src/hub/pipeline-source.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { temporaryPrefix } from '../../src/platform/node/fs.ts';
import { MemoryStore } from '../../src/platform/stores/memory-store.ts';
import { smallTrainer } from '../trainers/small-trainer.ts';

/** Saved in all layouts, with averaged weights. */
let folder: string;
let server: Server;
let address: string;
const asked: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-sources-'));
  const trainer = smallTrainer({ output_dir: path.join(folder, 'run'), max_steps: 20, use_ema: true });
  await trainer.train();
  for (const layout of ['nested', 'flat', 'transformers.js'] as const)
    await trainer.savePipeline(path.join(folder, layout), { layout });
  server = createServer((request, response) => {
    const file = path.join(folder, decodeURIComponent(request.url ?? ''));
    asked.push(request.url ?? '');
    if (existsSync(file)) response.end(readFileSync(file));
    // As a server of a single-page application answers.
    else response.setHeader('content-type', 'text/html').end('<!doctype html>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function drawn(model: string | PipelineSource, options = {}): Promise<Float32Array> {
  const generate = await pipeline('unconditional-point-generation', model, { device: 'cpu', ...options });
  const { points } = await generate({ batch_size: 5, num_inference_steps: 4, seed: 3 });
  await generate.dispose();
  return points;
}

function storeOf(root: string): MemoryStore {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => path.extname(name) !== '');
  return new MemoryStore(Object.fromEntries(files.map((name) => [name, readFileSync(path.join(root, name))])));
}

describe('pipeline() of a source', () => {
  it.each(['nested', 'flat', 'transformers.js'])(
    'draws the same points from layout %s, wherever it is',
    async (layout) => {
      const saved = path.join(folder, layout);
      // Where this call makes its temporary folders, and other processes none.
      const temporary = path.join(folder, `tmp-${layout}`);
      mkdirSync(temporary);
      vi.stubEnv(process.platform === 'win32' ? 'TEMP' : 'TMPDIR', temporary);
      onTestFinished(() => void vi.unstubAllEnvs());
      const expected = await drawn(path.join(folder, 'nested'));
      expect(await drawn(saved)).toEqual(expected);
      const zip = await zipFolder(saved);
      expect(await drawn(zip)).toEqual(expected);
      expect(await drawn(new Blob([zip]))).toEqual(expected);
      expect(await drawn(storeOf(saved))).toEqual(expected);
      expect(await drawn(`${address}/${layout}`)).toEqual(expected);
      expect(await drawn(new URL(`${address}/${layout}/`))).toEqual(expected);
      expect(path.dirname(temporaryPrefix())).toBe(temporary);
      expect(readdirSync(temporary)).toEqual([]);
    },
  );

  it('takes the raw weights from a server when asked, and only the files it needs', async () => {
    asked.length = 0;
    expect(await drawn(`${address}/nested`, { ema: false })).toEqual(
      await drawn(path.join(folder, 'nested'), { ema: false }),
    );
    expect(asked.filter((file) => /unet_ema|safetensors/.test(file))).toEqual([]);
  });

  it('opens a zip file whose folder is packed with its name', async () => {
    const outer = path.join(folder, 'outer');
    cpSync(path.join(folder, 'nested'), path.join(outer, 'my-model'), { recursive: true });
    expect(await drawn(await zipFolder(outer))).toEqual(await drawn(path.join(folder, 'nested')));
  });

  it('says what is wrong with a source', async () => {
    await expect(drawn(new Blob(['hello']))).rejects.toThrow(FileFormatError);
    await expect(drawn(new MemoryStore({ 'a.txt': 'x' }))).rejects.toThrow('there is no saved pipeline in it');
    await expect(drawn(`${address}/nothing`)).rejects.toThrow(/no saved pipeline at http.*no model_index.json/);
    await expect(drawn('http://127.0.0.1:9/roll')).rejects.toThrow(HubError);
    await expect(drawn({} as never)).rejects.toThrow(InvalidArgumentError);
  });
});

describe("the layout 'transformers.js'", () => {
  it("is opened by transformers.js's AutoModel with no options, and computes what pipeline() computes", async () => {
    const { localModelPath, allowRemoteModels } = env;
    try {
      Object.assign(env, { localModelPath: folder, allowRemoteModels: false });
      const model = await AutoModel.from_pretrained('transformers.js');
      const sample = Float32Array.of(0.5, -0.5, 1, 2);
      const { out_sample } = await model({
        sample: new Tensor('float32', sample, [2, 2]),
        timestep: new Tensor('int64', BigInt64Array.of(10n), [1]),
      });
      const generate = await pipeline('unconditional-point-generation', path.join(folder, 'nested'), { device: 'cpu' });
      expect(out_sample.data).toEqual(await generate.model.predict(sample, 10));
      await generate.dispose();
      await model.dispose();
    } finally {
      Object.assign(env, { localModelPath, allowRemoteModels });
    }
  });

  it('has the files of diffusers beside those of transformers.js, and no ONNX file twice', () => {
    const files = readdirSync(path.join(folder, 'transformers.js'), { recursive: true, encoding: 'utf8' });
    expect(files.filter((name) => path.extname(name) !== '').sort()).toEqual(
      [
        'README.md',
        'config.json',
        'model_index.json',
        'onnx/model.onnx',
        'point_scaler.json',
        'scheduler/scheduler_config.json',
        ...['config.json', 'diffusion_pytorch_model.safetensors', 'isotropy.json'].map((name) => `unet/${name}`),
        'unet/model.onnx',
        ...['config.json', 'diffusion_pytorch_model.safetensors', 'isotropy.json'].map((name) => `unet_ema/${name}`),
      ].sort(),
    );
    const readme = readFileSync(path.join(folder, 'transformers.js/README.md'), 'utf8');
    expect(readme).toContain("AutoModel.from_pretrained('./this-folder')");
  });
});
