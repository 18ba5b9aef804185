import { configureRuntime } from '../../../src/runtime/configure.ts';
import { trainPoints, trainUNet } from './training.ts';

// With threads where the server allows it: they need the files of onnxruntime-web by themselves.
if (globalThis.crossOriginIsolated) configureRuntime({ wasm_paths: `${location.origin}/ort/` });

/** What the tests run in Node.js and in the browser alike. */
export const scenarios = {
  environment: () => ({ isolated: globalThis.crossOriginIsolated, cores: navigator.hardwareConcurrency }),
  trainPoints,
  trainUNet,
};
export type Scenarios = typeof scenarios;
export type ScenarioName = keyof Scenarios;
