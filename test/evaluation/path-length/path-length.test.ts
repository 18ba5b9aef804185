import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from '../../../src/cli/main.ts';
import { ExtractorNotFoundError, ExtractorWeightsError, InvalidArgumentError } from '../../../src/errors.ts';
import { parameterShapes } from '../../../src/evaluation/extractors/networks/feature-network.ts';
import { vgg16 } from '../../../src/evaluation/extractors/networks/vgg16.ts';
import { Lpips, readVgg16 } from '../../../src/evaluation/path-length/lpips.ts';
import { perceptualPathLength } from '../../../src/evaluation/path-length/path-length.ts';
import { batchInterpolation, withoutExtremes } from '../../../src/evaluation/path-length/path-steps.ts';
import { type NamedTensor, safetensorsChunks } from '../../../src/files/safetensors.ts';
import { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { identity } from '../../../src/graph/ops/index.ts';
import type { UnconditionalImageGenerationPipeline } from '../../../src/pipelines/image-pipeline.ts';
import { pipeline } from '../../../src/pipelines/index.ts';
import { SampleStreams } from '../../../src/random/sample-streams.ts';
import { DDIMScheduler, DDPMScheduler } from '../../../src/schedulers/index.ts';
import { torchFile } from '../../files/torch/write.ts';
import { savePipeline, temporaryFolder } from '../../pipelines/saved-pipeline.ts';
import { saveUNet } from '../../pipelines/saved-unet.ts';
import { imagesByRule, weightsByRule } from '../extractors/networks/reference.ts';

interface PathValues {
  readonly mean: number;
  readonly std: number;
  readonly raw: number[];
}
interface Reference {
  readonly distances: { height: number; width: number; values: number[] }[];
  readonly path: { epsilon: number; count: number; height: number; width: number } & Record<
    'uint8' | 'uint8_inner' | 'float32' | 'float32_inner',
    PathValues
  >;
  readonly steps: { t: number } & Record<'from' | 'to' | 'lerp' | 'slerp_any', number[][]>;
}
/** Made by `python3 scripts/lpips_reference.py test/fixtures/extractors/lpips.json`. */
const reference: Reference = JSON.parse(
  readFileSync(new URL('../../fixtures/extractors/lpips.json', import.meta.url), 'utf8'),
);
/**
 * float32 twice, in other orders: 13 convolutions of up to 4,608 products, then squares of differences of unit vectors. The largest
 * deviation seen is 2e-7.
 */
const TOLERANCE = 1e-5;

const folder = await temporaryFolder();
const headsFile = path.join(folder, 'weights-vgg16-lpips.pth');
const unet = path.join(folder, 'unet');
const CHANNELS = [64, 128, 256, 512, 512];
const headTensors = () =>
  CHANNELS.map((channels, slice): [string, { shape: number[]; data: Float32Array<ArrayBuffer> }] => {
    const name = `lin${slice}.model.1.weight`;
    return [name, { shape: [1, channels, 1, 1], data: headByRule(name, [1, channels, 1, 1]) }];
  });
const headByRule = (name: string, shape: readonly number[]) => weightsByRule(name, shape).map(Math.abs);

/** The convolutions of VGG16, [name, shape]. */
const convolutions = (narrow: number) =>
  new Map([...parameterShapes(vgg16({ narrow }))].filter(([name]) => name.startsWith('features.')));

beforeAll(async () => {
  vi.stubEnv('ISO_DIFFUSION_EXTRACTORS', folder);
  writeFileSync(headsFile, torchFile(new Map(headTensors()), 'zip'));
  const tensors = [...convolutions(1)].map(([name, shape]): [string, NamedTensor] => [
    name,
    { dtype: 'F32', shape: [...shape], data: weightsByRule(name, shape) },
  ]);
  writeFileSync(
    path.join(folder, 'vgg16-397923af.safetensors'),
    Buffer.concat([...safetensorsChunks(new Map(tensors))]),
  );
  await saveUNet(unet);
});

/** [count, 3, height, width] in [0, 1]; `offset` is added to the bytes of the images by rule. */
function pixels(from: number, to: number, size: { height: number; width: number }, offset = 0): Float32Array {
  const { height, width } = size;
  const plane = height * width;
  const values = new Float32Array((to - from) * 3 * plane);
  for (const [n, { data }] of imagesByRule({ count: to, height, width }).slice(from).entries())
    for (let c = 0; c < 3; c++)
      for (let p = 0; p < plane; p++) values[(n * 3 + c) * plane + p] = ((data[p * 3 + c] as number) + offset) / 255;
  return values;
}

describe('LPIPS', () => {
  it.each(reference.distances)('is what torch gives for images of $height x $width', async ({ values, ...size }) => {
    const shapes = convolutions(16);
    const weights = (name: string) => {
      const slice = /^lin(\d)/.exec(name)?.[1];
      return slice === undefined
        ? weightsByRule(name, shapes.get(name) ?? [])
        : headByRule(name, [1, (CHANNELS[Number(slice)] ?? 0) / 16, 1, 1]);
    };
    const lpips = await Lpips.create({ ...size, side: 16 }, weights, 'cpu', 16);
    const scaled = (from: number, to: number) => pixels(from, to, size).map((unit) => 2 * unit - 1);
    const distances = await lpips.distances({ first: scaled(0, 2), second: scaled(2, 4), count: 2 });
    const same = await lpips.distances({ first: scaled(0, 2), second: scaled(0, 2), count: 2 });
    await lpips.dispose();
    expectNear(distances, values);
    expect([...same]).toEqual([0, 0]);
  });

  it('takes the convolutions from the model that convertExtractor writes', async () => {
    const graph = new Graph('vgg16');
    const shapes = [...convolutions(1)];
    const [first] = shapes.map(([name, shape]) =>
      graph.constant('float32', shape.map(Number), weightsByRule(name, shape), name),
    );
    if (first) graph.output('fc2_relu', identity(first));
    const file = path.join(folder, 'converted.onnx');
    writeFileSync(file, writeOnnx(graph));
    const [name = '', shape = []] = shapes.at(-2) ?? [];
    // `toEqual` takes seconds for two million values.
    const values = Buffer.from((await readVgg16(file))(name).slice().buffer);
    expect(values.equals(Buffer.from(weightsByRule(name, shape).buffer))).toBe(true);
  });
});

function expectNear(found: ArrayLike<number>, expected: readonly number[]): void {
  expect(found.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) expect(Math.abs((found[i] ?? 0) / value - 1)).toBeLessThan(TOLERANCE);
}

/** A pipeline that draws the images of the reference, whatever the latents, which it keeps. */
function ofReference(offset: number) {
  const { height, width } = reference.path;
  const latents: Float32Array[] = [];
  let [first, second] = [0, reference.path.count];
  const draw = async (call: { latents: Float32Array; batch_size: number }) => {
    latents.push(call.latents);
    const count = call.batch_size / 2;
    const data = [
      pixels(first, first + count, reference.path, 0.4),
      pixels(second, second + count, reference.path, offset),
    ];
    first += count;
    second += count;
    return { data: Float32Array.from(data.flatMap((part) => [...part])) };
  };
  const imageShape = [3, height, width];
  const parts = { task: 'unconditional-image-generation', imageShape, model: { sampleShape: imageShape } };
  const made = Object.assign(draw, parts, { scheduler: new DDIMScheduler() });
  return { latents, pipeline: made as unknown as UnconditionalImageGenerationPipeline };
}

describe('perceptualPathLength', () => {
  const { epsilon: ppl_epsilon, count: num_samples } = reference.path;
  const options = {
    ppl_lpips_weights: headsFile,
    ppl_epsilon,
    ppl_reduction: 'none' as const,
    ppl_sample_similarity_resize: 16,
    num_samples,
    batch_size: 5,
    device: 'cpu' as const,
  };

  it.each([
    // Bytes that 0.4 is added to are rounded to themselves.
    ['uint8', 0.4, {}],
    ['uint8_inner', 0.4, { ppl_discard_percentile_lower: 30, ppl_discard_percentile_higher: 60 }],
    ['float32', 0.8, { ppl_sample_similarity_dtype: 'float32' }],
  ] as const)('of given images is what torch gives: %s', async (name, offset, changes) => {
    const { latents, pipeline: given } = ofReference(offset);
    const report = await perceptualPathLength(given, { ...options, ...changes });
    const { mean, std, raw } = reference.path[name];
    expectNear(report.perceptual_path_length_raw ?? [], raw);
    expectNear([report.perceptual_path_length_mean], [mean]);
    // The spread is 2% of the mean, and its relative error is larger by as much.
    expect(Math.abs(report.perceptual_path_length_std / std - 1)).toBeLessThan(TOLERANCE / 0.02);
    expect(report.lpips_sha256).toBe(createHash('sha256').update(readFileSync(headsFile)).digest('hex'));
    const size = 3 * reference.path.height * reference.path.width;
    const streams = new SampleStreams(0, 5, size);
    const [start, end] = [0, 1].map(() => streams.fillNormal(new Float32Array(5 * size)));
    const [drawn = new Float32Array()] = latents;
    expect(drawn.subarray(0, 5 * size)).toEqual(start);
    const step = (drawn[5 * size] ?? 0) - (start?.[0] ?? 0);
    expect(step).toBeCloseTo(ppl_epsilon * ((end?.[0] ?? 0) - (start?.[0] ?? 0)), 6);
  });

  it('of a pipeline depends on the seed, and not on the batches', async () => {
    const draw = await pipeline('unconditional-image-generation', unet, { device: 'cpu' });
    const changes = {
      generation: { scheduler: 'ddim', num_inference_steps: 2 },
      ppl_sample_similarity_dtype: 'float32' as const,
      num_samples: 6,
    };
    const measure = (more: object) => perceptualPathLength(draw, { ...options, ...changes, ...more });
    const [one, other, seed] = [await measure({}), await measure({ batch_size: 3 }), await measure({ seed: 1 })];
    // A model with random weights and an image that is never the same: more than rounding, which squared would be 1e-10 of it.
    expect(one.perceptual_path_length_mean).toBeGreaterThan(0.01);
    expectNear(other.perceptual_path_length_raw ?? [], [...(one.perceptual_path_length_raw ?? [])]);
    expect(seed.perceptual_path_length_mean).not.toBe(one.perceptual_path_length_mean);
    // d / epsilon² has a limit: half the step, the same length.
    const half = await measure({ ppl_epsilon: ppl_epsilon / 2 });
    expect(half.perceptual_path_length_mean / one.perceptual_path_length_mean).toBeCloseTo(1, 1);
    await draw.dispose();
  });

  it('refuses what it cannot measure, before work', async () => {
    const refused = (given: string, changes: object) =>
      perceptualPathLength(given, { ...options, generation: { scheduler: 'ddim' }, ...changes });
    const points = await savePipeline(folder, 'points');
    const wrong = path.join(folder, 'wrong.pth');
    const swapped = headTensors().map(([name, { data }]): [string, { shape: number[]; data: typeof data }] => [
      name,
      { shape: [data.length, 1, 1, 1], data },
    ]);
    writeFileSync(wrong, torchFile(new Map(swapped), 'zip'));
    const cases: [string, object, new (message: string) => Error, RegExp][] = [
      [unet, { ppl_epsilon: 0 }, InvalidArgumentError, /ppl_epsilon/],
      [unet, { ppl_epsilom: 1 }, InvalidArgumentError, /did you mean 'ppl_epsilon'/],
      [unet, { ppl_sample_similarity_resize: 8 }, InvalidArgumentError, /ppl_sample_similarity_resize/],
      [unet, { ppl_discard_percentile_lower: 99 }, InvalidArgumentError, /must be below/],
      [unet, { ppl_z_interp_mode: 'slerp_unit' }, InvalidArgumentError, /use 'slerp_any'/],
      [unet, { generation: { class_labels: [1, 2] } }, InvalidArgumentError, /list of 2, but there are 8 pairs/],
      [unet, { generation: {} }, InvalidArgumentError, /DDPMScheduler adds noise/],
      [unet, { generation: { scheduler: new DDPMScheduler() } }, InvalidArgumentError, /'ddim'/],
      [points, {}, InvalidArgumentError, /is point-pipeline/],
      [unet, { ppl_lpips_weights: 'none.pth' }, ExtractorNotFoundError, /releases\/download\/v0.2.0/],
      [unet, { ppl_lpips_weights: undefined }, InvalidArgumentError, /name the file/],
      [unet, { ppl_lpips_weights: wrong }, ExtractorWeightsError, /not F32 \[1, 64, 1, 1\]/],
      [
        unet,
        { ppl_lpips_weights: path.join(folder, 'vgg16-397923af.safetensors') },
        ExtractorWeightsError,
        /5 missing/,
      ],
    ];
    for (const [given, changes, Failure, message] of cases) {
      const refusal = await refused(given, changes).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(Failure);
      expect(`${refusal}`).toMatch(message);
    }
  });

  it('is printed by evaluate --ppl', async () => {
    const lines: string[] = [];
    const spies = [
      vi.spyOn(console, 'log').mockImplementation((text) => void lines.push(`${text}`)),
      vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
        lines.push(`${text}`);
        return true;
      }),
    ];
    const cli = (...more: string[]) => {
      lines.length = 0;
      return main(['evaluate', '--fake', unet, '--n', '4', '--steps', '2', '--device', 'cpu', ...more]);
    };
    const ppl = ['--ppl', '--ppl-lpips-weights', headsFile, '--ppl-sample-similarity-resize', '16'];
    try {
      expect(await cli(...ppl, '--scheduler', 'ddim', '--ppl-epsilon', '0.1', '--json')).toBe(0);
      expect(JSON.parse(lines.find((line) => line.startsWith('{')) ?? '')).toMatchObject({
        perceptual_path_length_mean: expect.any(Number),
        settings: { num_samples: 4, ppl_epsilon: 0.1, ppl_discard_percentile_higher: 99 },
        fake: unet,
      });
      expect(await cli(...ppl, '--scheduler', 'ddim')).toBe(0);
      expect(lines.join('\n')).toMatch(/perceptual_path_length_mean[\s\S]*lpips_sha256/);
      expect(await cli(...ppl)).toBe(2);
      expect(lines.join('\n')).toContain('adds noise');
      expect(await cli(...ppl, '--real', 'digits')).toBe(2);
      expect(lines.join('\n')).toContain('--real is for other metrics');
      expect(await cli('--real', 'digits', '--ppl-epsilon', '1')).toBe(2);
      expect(lines.join('\n')).toContain('--ppl-epsilon is for --ppl');
      expect(await cli('--ppl')).toBe(2);
      expect(lines.join('\n')).toContain('--ppl needs --ppl-lpips-weights');
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  });
});

describe('a step', () => {
  it.each(['lerp', 'slerp_any'] as const)('by %s is what torch gives', (mode) => {
    const { from, to, t } = reference.steps;
    const stepped = batchInterpolation(Float32Array.from(from.flat()), Float32Array.from(to.flat()), t, 3, mode);
    for (const [i, value] of reference.steps[mode].flat().entries()) expect(stepped[i]).toBeCloseTo(value, 6);
  });
});

it('discards what is beyond two percentiles, and nothing for null', () => {
  const distances = Array.from({ length: 1000 }, (_, i) => (i * 7) % 1000);
  // numpy: percentile(arange(1000), 1, method='lower') is 9, percentile(arange(1000), 99, method='higher') is 990.
  const kept = withoutExtremes(distances, 1, 99);
  expect([Math.min(...kept), Math.max(...kept), kept.length]).toEqual([9, 990, 982]);
  expect(withoutExtremes(distances, null, null)).toEqual(distances);
});
