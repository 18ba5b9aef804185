import {
  blockUntilReady,
  defaultDevice,
  init,
  type Array as JaxArray,
  jit,
  numpy as np,
  valueAndGrad,
} from '@jax-js/jax';
import { adamScalars } from '../../src/graph/optimizers/adam.ts';
import { ADAM, batchesOf, type Contender, initialTensors, LAMBDA, LEARNING_RATE, model, plainBatch } from './task.ts';

const LAYERS = model.config.num_hidden_layers + 1;
const linear = (x: JaxArray, weight: JaxArray, bias: JaxArray) => np.matmul(x, weight.transpose()).add(bias);

/** Six tensors a layer, in the order of the model. jax-js counts references: each use but the last takes `.ref`. */
function lossOf(parameters: JaxArray[], noisy: JaxArray, noise: JaxArray, encoding: JaxArray): JaxArray {
  let hidden = noisy;
  for (let layer = 0; layer < LAYERS; layer++) {
    const [weight, bias, weight1, bias1, weight2, bias2] = parameters.slice(6 * layer) as [
      JaxArray,
      JaxArray,
      JaxArray,
      JaxArray,
      JaxArray,
      JaxArray,
    ];
    const embedded = np.maximum(linear(encoding.ref, weight1, bias1), 0);
    const sum = linear(hidden, weight, bias).add(linear(embedded, weight2, bias2));
    hidden = layer < LAYERS - 1 ? np.maximum(sum, 0) : sum;
  }
  encoding.dispose();
  const isotropy = np.mean(np.square(hidden.ref));
  const penalty = np.square(isotropy.sub(1)).mul(LAMBDA);
  return np.mean(np.square(hidden.sub(noise))).add(penalty);
}

type State = { parameters: JaxArray[]; first: JaxArray[]; second: JaxArray[] };

export async function jax(device: 'wasm' | 'webgpu', batch: number): Promise<Contender> {
  await init(device);
  defaultDevice(device);
  const { beta1, beta2 } = ADAM;
  const step = jit(
    (
      state: State,
      noisy: JaxArray,
      noise: JaxArray,
      encoding: JaxArray,
      stepSize: JaxArray,
      epsilon: JaxArray,
    ): { state: State; loss: JaxArray } => {
      const own = state.parameters.map((value) => value.ref);
      const [loss, gradients] = valueAndGrad(lossOf)(own, noisy, noise, encoding) as [JaxArray, JaxArray[]];
      // The moments without their factors 1 - beta, which `adamScalars` has.
      const first = state.first.map((m, i) => m.mul(beta1).add((gradients[i] as JaxArray).ref));
      const second = state.second.map((v, i) => v.mul(beta2).add(np.square(gradients[i] as JaxArray)));
      const parameters = state.parameters.map((value, i) => {
        const root = np.sqrt((second[i] as JaxArray).ref).add(epsilon.ref);
        return value.sub((first[i] as JaxArray).ref.mul(stepSize.ref).div(root));
      });
      stepSize.dispose();
      epsilon.dispose();
      return { state: { parameters, first, second }, loss };
    },
  );
  const tensors = initialTensors();
  let state: State = {
    parameters: tensors.map(({ data, shape }) => np.array(data as Float32Array<ArrayBuffer>).reshape([...shape])),
    first: tensors.map(({ shape }) => np.zeros([...shape])),
    second: tensors.map(({ shape }) => np.zeros([...shape])),
  };
  const batches = batchesOf(batch);
  const matrix = (values: Float32Array) =>
    np.array(values as Float32Array<ArrayBuffer>).reshape([batch, values.length / batch]);
  return {
    async run(first, count) {
      let value = Number.NaN;
      for (let index = first; index < first + count; index++) {
        const { noisy, noise, encoding } = plainBatch(batches, index);
        const { stepSize, epsilon } = adamScalars(index + 1, LEARNING_RATE, ADAM);
        const next = step(state, matrix(noisy), matrix(noise), matrix(encoding), np.array(stepSize), np.array(epsilon));
        state = next.state;
        // Waiting for each step would cost WebGPU its queue.
        if (index === first + count - 1) value = (await next.loss.data())[0] ?? Number.NaN;
        else next.loss.dispose();
      }
      await blockUntilReady(state.parameters);
      return value;
    },
    close: async () => {
      for (const arrays of Object.values(state)) for (const array of arrays) array.dispose();
    },
  };
}
