import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { exportModelGraph, initialParameters } from '../../src/models/index.ts';
import { noiseStreams } from '../../src/pipelines/editing/latents.ts';
import { DenoisingLoop } from '../../src/pipelines/fused/loop.ts';
import { guidanceOf, guidedPrediction } from '../../src/pipelines/guidance.ts';
import { ModelSession } from '../../src/pipelines/model-session.ts';
import { sample } from '../../src/pipelines/sample.ts';
import { readSamplingOptions, type SamplingOptions } from '../../src/pipelines/sampling-options.ts';
import { type StepNoise, stepNoise } from '../../src/pipelines/step-noise.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { tinyUNet } from '../models/tiny-unet.ts';

const model = tinyUNet();
const onnx = writeOnnx(exportModelGraph(model, initialParameters(model, 2)));
let session: ModelSession;
let loop: DenoisingLoop | undefined;
beforeAll(async () => {
  session = await ModelSession.create(onnx, {}, model.sampleShape, 'cpu');
  // What images take on cuda; on the cpu a pipeline goes step by step.
  loop = await DenoisingLoop.read(onnx, session);
});
afterAll(async () => {
  await loop?.release();
  await session.release();
});

function expectClose(looped: Float32Array | undefined, stepwise: Float32Array, limit = 1e-5): void {
  expect(looped).toHaveLength(stepwise.length);
  // onnxruntime orders the sums of a convolution otherwise inside a body; five steps make some 1e-7 to 1e-6 of that.
  for (const [i, value] of stepwise.entries()) expect(Math.abs(value - (looped?.[i] as number))).toBeLessThan(limit);
}

describe('images in a Loop', () => {
  it('of a model in its form for cuda are those of its file', async () => {
    const scheduler = new DDPMScheduler();
    const call = readSamplingOptions({ num_inference_steps: 5 }, { scheduler, isotropy: undefined }, 3, 'image');
    const graph = exportModelGraph(model, initialParameters(model, 2), 'int64', 'float32', 'cuda');
    expect(new Set(graph.nodes.map(({ opType }) => opType))).toContain('LayerNormalization');
    const stepwise = await sample(session, { ...call, batchSize: 3 });
    for (const source of [graph, writeOnnx(graph)]) {
      const inLoop = await DenoisingLoop.read(source, session);
      expectClose(await inLoop?.tryRun({ ...call, batchSize: 3 }), stepwise);
      await inLoop?.release();
    }
  });

  it.each([
    ['DDPM', { scheduler: new DDPMScheduler() }],
    ['DDIM, eta 0.5', { scheduler: new DDIMScheduler(), eta: 0.5 }],
  ] satisfies [string, SamplingOptions][])('are those of single steps, %s', async (_, options) => {
    const own = { scheduler: new DDPMScheduler(), isotropy: undefined };
    const call = readSamplingOptions({ ...options, num_inference_steps: 5, seed: 4 }, own, 3, 'image');
    const stepwise = await sample(session, { ...call, batchSize: 3 });
    expectClose(await loop?.tryRun({ ...call, batchSize: 3 }), stepwise);
  });

  it.each([
    [1, 'graph'],
    [2.5, 'file'],
  ] as const)('of classes are those of single steps, guidance_scale %d from a %s', async (guidance_scale, source) => {
    const classes = tinyUNet({ num_class_embeds: 4 });
    const graph = exportModelGraph(classes, initialParameters(classes, 2));
    const own = await ModelSession.create(writeOnnx(graph), {}, classes.sampleShape, 'cpu');
    const scheduler = new DDPMScheduler();
    const call = readSamplingOptions({ num_inference_steps: 5 }, { scheduler, isotropy: undefined }, 3, 'image');
    const guidance = guidanceOf(own, 4, { class_labels: [2, 0, 1], guidance_scale }, 0, 3);
    const run = { ...call, batchSize: 3, guidance, predict: guidedPrediction(own, guidance) };
    const stepwise = await sample(own, run);
    const inLoop = await DenoisingLoop.read(source === 'graph' ? graph : writeOnnx(graph), own);
    expectClose(await inLoop?.tryRun(run), stepwise);
    await inLoop?.release();
    await own.release();
  });

  it('take timesteps of floats, as the U-Net of a pipeline has them', async () => {
    const bytes = writeOnnx(exportModelGraph(model, initialParameters(model, 2), 'float32'));
    const inLoop = await DenoisingLoop.read(bytes, session);
    const own = { scheduler: new DDPMScheduler(), isotropy: undefined };
    const call = readSamplingOptions({ num_inference_steps: 3, seed: 4 }, own, 2, 'image');
    expectClose(await inLoop?.tryRun({ ...call, batchSize: 2 }), await sample(session, { ...call, batchSize: 2 }));
    await inLoop?.release();
  });

  it('in float16 are those of single steps, up to its rounding', async () => {
    const graph = exportModelGraph(model, initialParameters(model, 2), 'float32', 'float16');
    const half = await ModelSession.create(writeOnnx(graph), {}, model.sampleShape, 'cpu');
    const inLoop = await DenoisingLoop.read(graph, half);
    const own = { scheduler: new DDPMScheduler(), isotropy: undefined };
    const call = readSamplingOptions({ num_inference_steps: 5, seed: 4 }, own, 2, 'image');
    const looped = await inLoop?.tryRun({ ...call, batchSize: 2 });
    const stepwise = await sample(half, { ...call, batchSize: 2 });
    expect(looped).toHaveLength(stepwise.length);
    for (const [i, value] of stepwise.entries()) expect(Math.abs(value - (looped?.[i] as number))).toBeLessThan(2e-2);
    await inLoop?.release();
    await half.release();
  });

  it('are not taken where a pipeline runs on the cpu', async () => {
    expect(await DenoisingLoop.of(onnx, session)).toBeUndefined();
  });
});

describe('the noise of steps', () => {
  const draw = async (noise: StepNoise) => {
    try {
      const start = await noise.start();
      const first = Float32Array.from(await noise.take([true, false], [true]));
      return { start, first: first.subarray(0, 10), last: Float32Array.from(await noise.take([true], [])) };
    } finally {
      await noise.close();
    }
  };
  it.each([
    ['given latents', { seed: 7, latents: Float32Array.from({ length: 30 }, (_, i) => i) }],
    ['a blend of seeds', { seed: [1, 2, 3], blend: { seed: [4, 5, 6], weights: [0, 0.3, 1] } }],
  ])('is the same from a thread, by %s', async (_, call) => {
    const spec = { ...call, count: 2, size: 5, first: 1 };
    const draws = (ahead: boolean) => stepNoise(spec, noiseStreams(spec, 2, 5, 1), { ahead, noisySteps: 1e7 });
    expect(await draw(draws(true))).toEqual(await draw(draws(false)));
  });
});
