import { type ScenarioName, scenarios } from './scenarios.ts';

declare global {
  /** Runs a scenario here or in a new worker. */
  var runScenario: (name: ScenarioName, args: readonly unknown[], where: 'page' | 'worker') => Promise<unknown>;
  /** Starts a run in a worker that goes on until it is stopped. Resolves when its first steps are done. */
  var startRun: (batch: number) => Promise<void>;
  /** Stops it. @returns the milliseconds from the message that stops it to the answer. */
  var stopRun: () => Promise<number>;
}

/** @param onBegun called when the scenario says that it has begun. */
async function inWorker(name: ScenarioName, args: readonly unknown[], onBegun?: (worker: Worker) => void) {
  const worker = new Worker('/worker.js', { type: 'module' });
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if ('event' in data) onBegun?.(worker);
        else if ('error' in data) reject(new Error(data.error));
        else resolve(data.result);
      };
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ name, args });
    });
  } finally {
    worker.terminate();
  }
}

globalThis.runScenario = async (name, args, where) => {
  if (where === 'worker') return inWorker(name, args);
  return (scenarios[name] as (...args: readonly unknown[]) => unknown)(...args);
};

let running: { readonly worker: Worker; readonly ended: Promise<unknown> } | undefined;

globalThis.startRun = (batch) =>
  new Promise((resolve, reject) => {
    const ended = inWorker('trainUntilStopped', [batch], (worker) => {
      running = { worker, ended };
      resolve();
    });
    ended.catch(reject);
  });

globalThis.stopRun = async () => {
  const start = performance.now();
  running?.worker.postMessage('stop');
  await running?.ended;
  return performance.now() - start;
};
