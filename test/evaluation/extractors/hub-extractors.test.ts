import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.ts';
import { evaluate } from '../../../src/evaluation/evaluate.ts';
import type { FeatureExtractor, FeatureImage } from '../../../src/evaluation/extractors/feature-extractor.ts';
import { imageTensor } from '../../../src/evaluation/extractors/image-tensor.ts';
import { resolveExtractor } from '../../../src/evaluation/extractors/registry.ts';
import { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { concat, mul, reduceMean, reshape } from '../../../src/graph/ops/index.ts';
import { clipDiscrepancy } from '../../../src/metrics/cmmd.ts';
import { frechetDistance } from '../../../src/metrics/frechet/fid.ts';
import { FeatureStatistics } from '../../../src/metrics/frechet/statistics.ts';
import { RandomStream } from '../../../src/random/random-stream.ts';
import { MockHub } from '../../hub/mock-hub.ts';

/** Models with the inputs and outputs of the published ones, whose features are mean colours. */
function model(output: 'last_hidden_state' | 'image_embeds'): Uint8Array {
  const graph = new Graph(output);
  const pixels = graph.input('pixel_values', 'float32', ['batch_size', 3, 'height', 'width']);
  const means = reduceMean(pixels, [2, 3]);
  if (output === 'image_embeds') graph.output(output, means);
  else {
    const token = reshape(means, [0, 1, 3]);
    graph.output(output, concat([token, mul(token, graph.constant('float32', [], Float32Array.of(7)))], 1));
  }
  return writeOnnx(graph);
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'hub-extractors-'));
  await writeFile(path.join(folder, 'dinov2.onnx'), model('last_hidden_state'));
  await writeFile(path.join(folder, 'clip.onnx'), model('image_embeds'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function pictures(seed: number, count: number, height = 6, width = 9): FeatureImage[] {
  const stream = new RandomStream(seed);
  return Array.from({ length: count }, () => {
    const tint = [stream.integer(256), stream.integer(256), stream.integer(256)];
    const data = Uint8Array.from({ length: height * width * 3 }, (_, i) => {
      return Math.min(255, (tint[i % 3] as number) / 2 + stream.integer(128));
    });
    return { data, height, width, channels: 3 };
  });
}

async function features(name: string, images: readonly FeatureImage[]): Promise<Float32Array> {
  const extractor = await resolveExtractor(name, { extractors_dir: folder });
  try {
    return await extractor.extract(images);
  } finally {
    await extractor.dispose();
  }
}

const meansOf = (images: readonly FeatureImage[], options: Parameters<typeof imageTensor>[1]) => {
  const tensor = imageTensor(images, options);
  const pixels = options.height * options.width;
  return Float32Array.from({ length: images.length * 3 }, (_, i) => {
    return tensor.subarray(i * pixels, (i + 1) * pixels).reduce((sum, value) => sum + value, 0) / pixels;
  });
};
const close = (actual: Float32Array, expected: Float32Array) => {
  expect(actual).toHaveLength(expected.length);
  // Means of up to 112,896 float32 values of about 1.
  actual.forEach((value, i) => {
    expect(Math.abs(value - (expected[i] as number))).toBeLessThan(1e-5);
  });
};

describe('the extractors of metrics', () => {
  const images = pictures(1, 2);

  it("dinov2: both sides to 224 by Pillow's rule, ImageNet's scale, the class token", async () => {
    const options = { height: 224, width: 224, layout: 'NCHW', resize: 'bicubic' } as const;
    const scale = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
    close(await features('dinov2', images), meansOf(images, { ...options, ...scale }));
  });

  it("clip: the middle square to 336 by Pillow's rule, CLIP's scale", async () => {
    const options = { height: 336, width: 336, layout: 'NCHW', resize: 'bicubic', center_crop: true } as const;
    const mean = [0.48145466, 0.4578275, 0.40821073] as const;
    const std = [0.26862954, 0.26130258, 0.27577711] as const;
    close(await features('clip', images), meansOf(images, { ...options, mean, std }));
  });

  it('come from the Hub, with progress', async () => {
    const hub = new MockHub();
    await hub.start();
    hub.files.set('onnx/vision_model.onnx', Buffer.from(model('image_embeds')));
    hub.lfs.add('onnx/vision_model.onnx');
    // It knows one repository.
    const renamed: typeof fetch = (input, init) =>
      fetch(String(input).replace('Xenova/clip-vit-large-patch14-336', 'owner/model'), init);
    const files = new Set<string>();
    const extractor = await resolveExtractor('clip', {
      extractors_dir: path.join(folder, 'none'),
      endpoint: hub.endpoint,
      fetch: renamed,
      cache_dir: path.join(folder, 'cache'),
      progress_callback: ({ name, file }) => void files.add(`${name} ${file}`),
    });
    expect(extractor.name).toBe('vision_model.onnx:image_embeds (bicubic resize, center crop)');
    expect([...files]).toEqual(['Xenova/clip-vit-large-patch14-336 onnx/vision_model.onnx']);
    await extractor.dispose();
    await hub.stop();
  });

  it.each([
    ['clip:last_hidden_state', {}],
    ['dinov2', { preprocessing: 'clean-fid' as const }],
  ])('%s %o is refused', async (spec, options) => {
    const failure = resolveExtractor(spec, { extractors_dir: folder, ...options });
    await expect(failure).rejects.toThrow(InvalidArgumentError);
    await expect(failure).rejects.toThrow(/has one layer and one preprocessing/);
  });
});

describe('evaluate with metrics that are defined for an extractor', () => {
  const set = async (name: string, images: readonly FeatureImage[]) => {
    const target = path.join(folder, name);
    await rm(target, { recursive: true, force: true });
    await mkdir(target);
    for (const [i, { data, height, width }] of images.entries())
      await writeFile(
        path.join(target, `${String(i).padStart(3, '0')}.ppm`),
        Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), data]),
      );
    return target;
  };

  it('takes each of them in one pass, beside the extractor of the others', async () => {
    vi.stubEnv('ISO_DIFFUSION_EXTRACTORS', folder);
    const [realImages, fakeImages] = [pictures(2, 12), pictures(3, 10)];
    const seen: number[] = [];
    const colour: FeatureExtractor = {
      name: 'first pixel',
      checksum: '',
      dims: 3,
      async extract(images) {
        seen.push(images.length);
        return Float32Array.from(images.flatMap(({ data }) => [...data.subarray(0, 3)]));
      },
      async dispose() {},
    };
    const options = {
      real: await set('real', realImages),
      fake: await set('fake', fakeImages),
      metrics: ['fd-dinov2', 'fid', 'cmmd'],
      extractor: colour,
      batch_size: 4,
      device: 'cpu' as const,
      cache_dir: path.join(folder, 'statistics'),
    };
    const report = await evaluate(options);
    vi.unstubAllEnvs();
    const gaussian = (data: Float32Array) => {
      const statistics = new FeatureStatistics(3);
      statistics.add(data);
      return statistics.gaussian();
    };
    const cloud = (data: Float32Array) => ({ data, count: data.length / 3, dims: 3 });
    const dino = [await features('dinov2', realImages), await features('dinov2', fakeImages)].map(gaussian);
    const clip = [await features('clip', realImages), await features('clip', fakeImages)].map(cloud);
    const [first, second] = dino as [ReturnType<typeof gaussian>, ReturnType<typeof gaussian>];
    const [a, b] = clip as [ReturnType<typeof cloud>, ReturnType<typeof cloud>];
    expect(Object.keys(report.metrics)).toEqual(['fd_dinov2', 'fid', 'cmmd']);
    expect(report.metrics.fd_dinov2).toBeCloseTo(frechetDistance(first, second), 6);
    expect(report.metrics.cmmd).toBeCloseTo(await clipDiscrepancy(a, b), 4);
    expect(report.extractor.name).toBe('first pixel');
    expect(report.metric_extractors).toMatchObject({
      'fd-dinov2': { name: 'dinov2.onnx:last_hidden_state (bicubic resize)', dims: 3 },
      cmmd: { name: 'clip.onnx:image_embeds (bicubic resize, center crop)', dims: 3 },
    });
    // Two probes, the real images and the generated ones.
    expect(seen).toEqual([1, 1, 4, 4, 4, 4, 4, 2]);
  });

  it('loads no other, and shares one that is named for all', async () => {
    vi.stubEnv('ISO_DIFFUSION_EXTRACTORS', folder);
    const both = { real: await set('real', pictures(2, 6)), fake: await set('fake', pictures(3, 6)) };
    const common = { ...both, device: 'cpu' as const, cache_dir: path.join(folder, 'statistics') };
    const alone = await evaluate({ ...common, metrics: ['fd-dinov2'] });
    expect(alone.extractor.name).toMatch(/^dinov2/);
    const shared = await evaluate({ ...common, metrics: ['fid', 'fd-dinov2'], extractor: 'dinov2' });
    expect(shared.metrics.fid).toBe(shared.metrics.fd_dinov2);
    expect(shared.metrics.fid).toBe(alone.metrics.fd_dinov2);
    vi.unstubAllEnvs();
  });
});
