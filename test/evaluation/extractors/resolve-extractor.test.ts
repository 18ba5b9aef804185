import { createHash } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExtractorNotFoundError, HubError, InvalidArgumentError } from '../../../src/errors.ts';
import { featureGraph, parameterShapes } from '../../../src/evaluation/extractors/networks/feature-network.ts';
import { inceptionV3 } from '../../../src/evaluation/extractors/networks/inception-v3.ts';
import { type ResolveExtractorOptions, resolveExtractor } from '../../../src/evaluation/extractors/registry.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { MockHub } from '../../hub/mock-hub.ts';
import { expectLayer, imagesByRule, type LayerSummary, readReference, weightsByRule } from './networks/reference.ts';

const reference = readReference('inception-16');
const images = imagesByRule(reference.images);
let folder: string;
let model: string;
let checksum: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'resolve-extractor-'));
  const network = inceptionV3({ narrow: 16 });
  const shapes = parameterShapes(network);
  const bytes = writeOnnx(featureGraph(network, (name) => weightsByRule(name, shapes.get(name) ?? [])));
  model = path.join(folder, 'inception.onnx');
  await writeFile(model, bytes);
  checksum = createHash('sha256').update(bytes).digest('hex');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function featuresOf(spec: string, options: ResolveExtractorOptions = {}) {
  const extractor = await resolveExtractor(spec, { extractors_dir: folder, ...options });
  try {
    const { name, checksum, dims } = extractor;
    return { name, checksum, dims, features: await extractor.extract(images) };
  } finally {
    await extractor.dispose();
  }
}

describe('extractors by name', () => {
  it.each([
    ['inception', '2048'],
    ['inception:64', '64'],
    ['inception:logits_unbiased', 'logits_unbiased'],
  ])('%s from the extractors folder gives what pytorch-fid gives', async (spec, layer) => {
    const { name, features, dims, ...rest } = await featuresOf(spec);
    expect({ name, ...rest }).toEqual({ name: `inception.onnx:${layer}`, checksum });
    // See networks.test.ts.
    expectLayer(layer, features, [2, dims], reference.layers[layer] as LayerSummary, 1e-4);
  });

  it('a file by its path, by its name in the folder, and with the preprocessing of torch-fidelity', async () => {
    const byPath = await featuresOf(`${model}:768`, { extractors_dir: '/none' });
    expectLayer('768', byPath.features, [2, 48], reference.layers['768'] as LayerSummary, 1e-4);
    await cp(model, path.join(folder, 'mine.onnx'));
    const byName = await featuresOf('mine:768');
    expect(byName.features).toEqual(byPath.features);
    expect(byName.name).toBe('mine.onnx:768');
    const torchFidelity = await featuresOf('inception:768', { preprocessing: 'torch-fidelity' });
    expect(torchFidelity.name).toBe('inception.onnx:768 (asymmetric resize)');
    expect(torchFidelity.features).not.toEqual(byPath.features);
    const byHand = await featuresOf('mine:768', {
      resize: 'asymmetric',
      image_mean: [128 / 255, 128 / 255, 128 / 255],
      image_std: [128 / 255, 128 / 255, 128 / 255],
    });
    expect(torchFidelity.features).toEqual(byHand.features);
    const clean = await featuresOf('inception:768', { preprocessing: 'clean-fid' });
    expect(clean.name).toBe('inception.onnx:768 (clean resize)');
    const cleanByHand = await featuresOf('mine:768', {
      resize: 'clean',
      image_mean: [128 / 255, 128 / 255, 128 / 255],
      image_std: [128 / 255, 128 / 255, 128 / 255],
    });
    expect(clean.features).toEqual(cleanByHand.features);
    expect(clean.features).not.toEqual(torchFidelity.features);
  });

  it('raw pixels', async () => {
    const { height, width } = reference.images;
    const { dims, features } = await featuresOf('raw-pixels', {
      image_shape: { height, width, channels: 3 },
    });
    expect(dims).toBe(height * width * 3);
    expect(features[0]).toBeCloseTo((images[0]?.data[0] ?? 0) / 255, 6);
  });

  it('a file of a repository of the Hub, which is then taken from the cache', async () => {
    const hub = new MockHub();
    await hub.start();
    hub.files.set('onnx/inception.onnx', await readFile(model));
    hub.lfs.add('onnx/inception.onnx');
    const options = { endpoint: hub.endpoint, cache_dir: path.join(folder, 'cache') };
    const spec = 'owner/model/onnx/inception.onnx:64';
    const downloaded = await featuresOf(spec, options);
    expect(downloaded).toMatchObject({ name: 'inception.onnx:64', checksum });
    await expect(featuresOf('owner/model/none.onnx', options)).rejects.toThrow(/no file none\.onnx/);
    await hub.stop();
    expect((await featuresOf(spec, options)).features).toEqual(downloaded.features);
    await expect(featuresOf('owner/other/x.onnx', { ...options, local_files_only: true })).rejects.toThrow(HubError);
  });
});

describe('what cannot be had is named, with what to do', () => {
  it.each<[string, ResolveExtractorOptions, new (message: string) => Error, RegExp]>([
    ['inception:pool3', {}, InvalidArgumentError, /no output 'pool3'.*64, 192, 768, 2048/],
    ['none.onnx', {}, ExtractorNotFoundError, /none\.onnx does not exist/],
    ['weights.pth', {}, ExtractorNotFoundError, /weights\.pth does not exist/],
    ['resnet', {}, InvalidArgumentError, /extractor 'resnet' is unknown: use inception, vgg16, raw-pixels/],
    ['nsfwjs-inception-v3', {}, ExtractorNotFoundError, /run `npx tsx scripts\/nsfwjs-inception.ts`/],
    ['raw-pixels', {}, InvalidArgumentError, /needs image_shape/],
    ['', {}, InvalidArgumentError, /extractor '' is unknown/],
    ['a.onnx', { preprocessing: 'torch-fidelity' }, InvalidArgumentError, /set resize, image_mean/],
  ])('%s %o', async (spec, options, kind, message) => {
    const error = await resolveExtractor(spec, { extractors_dir: folder, ...options }).catch((caught) => caught);
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(message);
  });
});
