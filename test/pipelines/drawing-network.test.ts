import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { DisposedError } from '../../src/errors.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { exportModelGraph, initialParameters, UNet2DModel, type UNet2DOptions } from '../../src/models/index.ts';
import { DrawingNetwork } from '../../src/pipelines/drawing-network.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { ModelSession } from '../../src/pipelines/model-session.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { saveUNet, smallUNet } from './saved-unet.ts';

/** At 16x16 by tiles, at 8x8 by columns, with strides, 1x1 shortcuts, attention and few outputs; weights above the limit of constants. */
const everyWay: UNet2DOptions = {
  sample_size: 16,
  in_channels: 3,
  out_channels: 3,
  block_out_channels: [48, 80],
  norm_num_groups: 8,
};

async function bothWays(model: UNet2DModel) {
  const weights = initialParameters(model, 3);
  const timestepType = model.takesFractionalTimesteps ? 'float32' : 'int64';
  const exported = writeOnnx(exportModelGraph(model, weights, timestepType));
  return {
    exported: await ModelSession.create(exported, {}, model.sampleShape, 'cpu'),
    drawing: ModelSession.of(await DrawingNetwork.create(model, weights), {}, model.sampleShape),
  };
}

function noise(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => 1.4 * Math.sin(1.7 * i + 0.001 * i * i));
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a).toHaveLength(b.length);
  return Math.max(...a.map((value, i) => Math.abs(value - (b[i] as number))));
}

describe('the layout in which the cpu draws', () => {
  const model = tinyUNet(everyWay);
  let ways: Awaited<ReturnType<typeof bothWays>>;
  beforeAll(async () => {
    ways = await bothWays(model);
    return async () => {
      await ways.exported.release();
      await ways.drawing.release();
    };
  });

  // The error of tiles is ten roundings; the outputs are of the order of 1.
  it.each([1, 3])('gives what the exported graph gives, %d images', async (count) => {
    const sample = noise(count * 768);
    const expected = await ways.exported.predict(sample, 321);
    expect(largestDifference(await ways.drawing.predict(sample, 321), expected)).toBeLessThan(1e-5);
    const timesteps = Array.from({ length: count }, (_, i) => 100 * i + 0.5);
    const each = await ways.exported.predict(sample, timesteps);
    expect(largestDifference(await ways.drawing.predict(sample, timesteps), each)).toBeLessThan(1e-5);
  });

  it('gives an image bit for bit in batches of 1, 2, 5 and 16', async () => {
    const sample = noise(16 * 768);
    const all = await ways.drawing.predict(sample, 50);
    for (const count of [1, 2, 5])
      expect(await ways.drawing.predict(sample.slice(0, count * 768), 50)).toEqual(all.slice(0, count * 768));
  });

  it('runs batches of several sizes beside each other', async () => {
    const sizes = [1, 4, 2, 3, 1];
    const alone = await ways.drawing.predict(noise(768), 7);
    const drawn = await Promise.all(sizes.map((count) => ways.drawing.predict(noise(count * 768), 7)));
    for (const values of drawn) expect(values.slice(0, 768)).toEqual(alone);
  });
});

it.each([
  ['classes', { num_class_embeds: 4 }],
  ['a learned table of timesteps', { time_embedding_type: 'learned', num_train_timesteps: 1000 }],
  [
    'scale and shift, resampling by residual blocks',
    { resnet_time_scale_shift: 'scale_shift', downsample_type: 'resnet', upsample_type: 'resnet' },
  ],
] satisfies [string, UNet2DOptions][])('it draws a U-Net with %s', async (_, options) => {
  const { exported, drawing } = await bothWays(tinyUNet({ ...everyWay, block_out_channels: [32, 40], ...options }));
  const given = [noise(2 * 768), 12, 'num_class_embeds' in options ? [3, 1] : undefined] as const;
  expect(largestDifference(await drawing.predict(...given), await exported.predict(...given))).toBeLessThan(1e-5);
  await exported.release();
  await drawing.release();
});

it('is what a pipeline of a large U-Net draws by, with the checksum of its ONNX file', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
  try {
    const options = { block_out_channels: [64, 320], norm_num_groups: 8, attention_head_dim: 64 };
    await saveUNet(path.join(folder, 'pipeline'), options);
    const [drawn, exported] = await Promise.all(
      ['pipeline', 'pipeline/unet/model.onnx'].map((name) =>
        pipeline('unconditional-image-generation', path.join(folder, name), { device: 'cpu' }),
      ),
    );
    const call = { num_inference_steps: 3, batch_size: 2, output_type: 'tensor' } as const;
    const [images, expected] = await Promise.all([drawn, exported].map(async (draw) => (await draw?.(call))?.data));
    expect(largestDifference(images as Float32Array, expected as Float32Array)).toBeLessThan(1e-5);
    expect(images).not.toEqual(expected);

    await drawn?.toFolder(path.join(folder, 'images'), { count: 1, num_inference_steps: 1 });
    const record: unknown = JSON.parse(await readFile(path.join(folder, 'images', 'generation.json'), 'utf8'));
    const model = new UNet2DModel({ ...smallUNet, ...options });
    const file = writeOnnx(exportModelGraph(model, initialParameters(model, 0), 'float32'));
    expect(record).toMatchObject({ model_sha256: createHash('sha256').update(file).digest('hex') });
    await Promise.all([drawn, exported].map((opened) => opened?.dispose()));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it('cannot be used after release', async () => {
  const model = tinyUNet();
  const network = await DrawingNetwork.create(model, initialParameters(model, 0));
  await network.release();
  await expect(network.run({})).rejects.toThrow(DisposedError);
});
