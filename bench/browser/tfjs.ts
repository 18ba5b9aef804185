import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import '@tensorflow/tfjs-backend-webgpu';
import { batchesOf, type Contender, initialTensors, LAMBDA, LEARNING_RATE, model, plainBatch } from './task.ts';

const LAYERS = model.config.num_hidden_layers + 1;

export async function tfjs(device: 'wasm' | 'webgl' | 'webgpu', batch: number): Promise<Contender> {
  setWasmPaths('/tfjs/');
  if (!(await tf.setBackend(device))) throw new Error(`tfjs has no backend '${device}' here`);
  await tf.ready();
  const variables = initialTensors().map(({ name, shape, data }) =>
    tf.variable(tf.tensor(data, [...shape]), true, `${name}-${Math.random()}`),
  );
  const optimizer = tf.train.adam(LEARNING_RATE, 0.9, 0.999, 1e-8);
  const batches = batchesOf(batch);
  const linear = (x: tf.Tensor2D, layer: number, index: number) =>
    tf.add(
      tf.matMul(x, variables[6 * layer + index] as unknown as tf.Tensor2D, false, true),
      variables[6 * layer + index + 1] as tf.Tensor,
    );
  const lossOf = (noisy: tf.Tensor2D, noise: tf.Tensor2D, encoding: tf.Tensor2D): tf.Scalar => {
    let hidden = noisy;
    for (let layer = 0; layer < LAYERS; layer++) {
      const embedded = tf.relu(linear(encoding, layer, 2)) as tf.Tensor2D;
      const sum = tf.add(linear(hidden, layer, 0), linear(embedded, layer, 4)) as tf.Tensor2D;
      hidden = layer < LAYERS - 1 ? tf.relu(sum) : sum;
    }
    const isotropy = tf.mean(tf.square(hidden));
    const penalty = tf.mul(tf.square(tf.sub(isotropy, 1)), LAMBDA);
    return tf.add(tf.mean(tf.square(tf.sub(hidden, noise))), penalty) as tf.Scalar;
  };
  return {
    async run(first, count) {
      let value = Number.NaN;
      for (let index = first; index < first + count; index++) {
        const plain = plainBatch(batches, index);
        const matrix = (values: Float32Array) => tf.tensor2d(values, [batch, values.length / batch]);
        const [noisy, noise, encoding] = [matrix(plain.noisy), matrix(plain.noise), matrix(plain.encoding)];
        const loss = optimizer.minimize(() => lossOf(noisy, noise, encoding), true);
        tf.dispose([noisy, noise, encoding]);
        if (index === first + count - 1) value = (await loss?.data())?.[0] ?? Number.NaN;
        loss?.dispose();
      }
      await variables.at(-1)?.data();
      return value;
    },
    close: async () => {
      optimizer.dispose();
      for (const variable of variables) variable.dispose();
    },
  };
}
