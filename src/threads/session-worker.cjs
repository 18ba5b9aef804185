// @ts-check
/**
 * The thread behind `WorkerSession`: loads one model and answers runs in order. Plain CommonJS, so that a worker can
 * start it without the loader of TypeScript sources.
 */
const { parentPort, workerData } = require('node:worker_threads');
const ort = require('onnxruntime-node');

if (!parentPort) throw new Error('session-worker.cjs runs as a worker thread only');
const port = parentPort;
const session = ort.InferenceSession.create(workerData.model, workerData.options);

/** @typedef {{ type: 'float32' | 'int64', dims: readonly number[], data: Float32Array | BigInt64Array }} PlainTensor */

port.on(
  'message',
  async (/** @type {{ id: number, feeds: Record<string, PlainTensor> }} */ { id, feeds }) => {
    try {
      const loaded = await session;
      const tensors = Object.entries(feeds).map(([name, { type, dims, data }]) => [
        name,
        new ort.Tensor(type, data, dims),
      ]);
      const results = await loaded.run(Object.fromEntries(tensors));
      const outputs = Object.entries(results).map(([name, tensor]) => [
        name,
        { type: tensor.type, dims: [...tensor.dims], data: tensor.data },
      ]);
      port.postMessage({ id, outputs: Object.fromEntries(outputs) });
    } catch (error) {
      port.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  },
);
