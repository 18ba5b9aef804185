import { type ScenarioName, scenarios } from './scenarios.ts';

/** Runs the one scenario that it is sent. */
globalThis.onmessage = async ({ data: { name, args } }: { data: { name: ScenarioName; args: readonly unknown[] } }) => {
  globalThis.onmessage = null;
  try {
    globalThis.postMessage({ result: await (scenarios[name] as (...args: readonly unknown[]) => unknown)(...args) });
  } catch (error) {
    globalThis.postMessage({ error: error instanceof Error ? error.stack : String(error) });
  }
};
