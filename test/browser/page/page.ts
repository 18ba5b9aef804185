import { type ScenarioName, scenarios } from './scenarios.ts';

declare global {
  /** Runs a scenario here or in a new worker. */
  var runScenario: (name: ScenarioName, args: readonly unknown[], where: 'page' | 'worker') => Promise<unknown>;
}

globalThis.runScenario = async (name, args, where) => {
  if (where === 'page') return (scenarios[name] as (...args: readonly unknown[]) => unknown)(...args);
  const worker = new Worker('/worker.js', { type: 'module' });
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => ('error' in data ? reject(new Error(data.error)) : resolve(data.result));
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ name, args });
    });
  } finally {
    worker.terminate();
  }
};
