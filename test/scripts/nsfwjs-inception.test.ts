import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { nsfwjsGraph, readNsfwjsInception } from '../../scripts/tfjs-layers/nsfwjs.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

/** Fetches 25 MB by npm and runs an Inception v3 in plain JavaScript: `npm run test:slow`. */
describe.runIf(process.env.MODE === 'slow')('the Inception v3 of nsfwjs', () => {
  it('as ONNX gives what tfjs gives', async () => {
    const source = await readNsfwjsInception(process.env.NSFWJS_TARBALL);
    const tf = createRequire(import.meta.url)('@tensorflow/tfjs') as typeof import('@tensorflow/tfjs');
    await tf.setBackend('cpu');
    const manifest = source.weightsManifest as {
      weights: import('@tensorflow/tfjs').io.WeightsManifestEntry[];
    }[];
    const model = await tf.loadLayersModel(
      tf.io.fromMemory({
        modelTopology: source.modelTopology as object,
        weightSpecs: manifest.flatMap(({ weights }) => weights),
        weightData: source.weightData.buffer as ArrayBuffer,
      }),
    );
    const flat = model.getLayer('flatten_1').output as import('@tensorflow/tfjs').SymbolicTensor;
    const both = tf.model({ inputs: model.inputs, outputs: [flat, ...model.outputs] });
    // Pixels from 0 to 1, as nsfwjs gives them.
    const pixels = tf.tidy(() => {
      const waves = tf.sin(tf.range(0, 299 * 299 * 3).mul(0.0137)).mul(0.3);
      return waves.add(0.5).reshape([1, 299, 299, 3]);
    });
    const [features, probabilities] = (both.predict(pixels) as import('@tensorflow/tfjs').Tensor[]).map((tensor) =>
      tensor.dataSync(),
    );

    const session = await Session.create(writeOnnx(nsfwjsGraph(source)), 'cpu');
    const images = tf.transpose(pixels.mul(2).sub(1), [0, 3, 1, 2]).dataSync() as Float32Array;
    const ours = await session.run({ images: hostTensor('float32', [1, 3, 299, 299], images.slice()) });
    await session.release();

    const deviation = (mine: ArrayLike<number>, theirs: ArrayLike<number>) =>
      Math.hypot(...Array.from(theirs, (value, at) => value - (mine[at] ?? Number.NaN))) /
      Math.hypot(...Array.from(theirs));
    const agreement = {
      features: deviation(ours['2048']?.data as Float32Array, features ?? []),
      probabilities: deviation(ours.probabilities?.data as Float32Array, probabilities ?? []),
    };
    console.log('relative deviation from tfjs', agreement);
    // 48 convolutions one after another in float32, summed in other orders.
    expect(agreement.features).toBeLessThan(1e-4);
    expect(agreement.probabilities).toBeLessThan(1e-4);
  }, 600_000);
});
