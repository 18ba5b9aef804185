// @ts-check
/**
 * The thread behind `WorkerSession`: loads one model and answers runs in order. Plain CommonJS, so that it starts
 * without the loader of TypeScript sources; it speaks the protocol of `threads/channel.ts` by itself.
 */
const { parentPort, workerData } = require('node:worker_threads');
const ort = require('onnxruntime-node');

if (!parentPort) throw new Error('session-worker.cjs runs as a worker thread only');
const port = parentPort;
const session = ort.InferenceSession.create(workerData.model, workerData.options);
// Every call is answered with the failure.
session.catch(() => undefined);

/**
 * @typedef {{ type: 'float32' | 'int64', dims: readonly number[], data: Float32Array | BigInt64Array }} PlainTensor
 * @typedef {{ feeds: Record<string, PlainTensor>, fetches?: readonly string[] }} RunRequest
 */

port.on('message', async (/** @type {'end' | { id: number, request: RunRequest | 'describe' }} */ message) => {
  // Between two calls of onnxruntime, which blocks this thread.
  if (message === 'end') process.exit(0);
  const { id, request } = message;
  try {
    const loaded = await session;
    const answer = request === 'describe' ? describe(loaded) : await run(loaded, request);
    port.postMessage({ id, answer });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    port.postMessage({ id, error: { name: 'Error', message: text } });
  }
});

function describe(/** @type {import('onnxruntime-node').InferenceSession} */ { inputMetadata, outputNames }) {
  const inputs = inputMetadata.map((input) => ({
    name: input.name,
    type: input.isTensor ? { dtype: input.type, shape: [...input.shape] } : undefined,
  }));
  return { inputs, outputNames: [...outputNames] };
}

async function run(
  /** @type {import('onnxruntime-node').InferenceSession} */ loaded,
  /** @type {RunRequest} */ { feeds, fetches = loaded.outputNames },
) {
  const tensors = Object.entries(feeds).map(([name, { type, dims, data }]) => [name, new ort.Tensor(type, data, dims)]);
  const results = await loaded.run(Object.fromEntries(tensors), fetches);
  const outputs = Object.entries(results).map(([name, tensor]) => [
    name,
    { type: tensor.type, dims: [...tensor.dims], data: tensor.data },
  ]);
  return Object.fromEntries(outputs);
}
