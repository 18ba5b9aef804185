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

/** @typedef {{ type: 'float32' | 'int64', dims: readonly number[], data: Float32Array | BigInt64Array }} PlainTensor */

port.on('message', async (/** @type {'end' | { id: number, request: Record<string, PlainTensor> }} */ message) => {
  // Between two calls of onnxruntime, which blocks this thread.
  if (message === 'end') process.exit(0);
  const { id, request } = message;
  try {
    const loaded = await session;
    const feeds = Object.entries(request).map(([name, { type, dims, data }]) => [
      name,
      new ort.Tensor(type, data, dims),
    ]);
    const results = await loaded.run(Object.fromEntries(feeds));
    const outputs = Object.entries(results).map(([name, tensor]) => [
      name,
      { type: tensor.type, dims: [...tensor.dims], data: tensor.data },
    ]);
    port.postMessage({ id, answer: Object.fromEntries(outputs) });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    port.postMessage({ id, error: { name: 'Error', message: text } });
  }
});
