import { type ScenarioName, scenarios } from './scenarios.ts';

globalThis.onmessage = async ({ data: { name, args } }: { data: { name: ScenarioName; args: readonly unknown[] } }) => {
  try {
    globalThis.postMessage({ result: await (scenarios[name] as (...args: readonly unknown[]) => unknown)(...args) });
  } catch (error) {
    globalThis.postMessage({ error: String(error) });
  }
};
