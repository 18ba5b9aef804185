import { configureRuntime, deviceReports } from 'iso-diffusion';
import { drawFrom, evaluateDigits, evaluatePoints, exerciseStore, gridOf, openFiles, refusedFiles } from './data.ts';
import { trainPoints, trainUNet } from './training.ts';
import {
  openByTransformers,
  runInOpfs,
  sampleAndMeasure,
  startOften,
  trainAndExport,
  trainUntilStopped,
} from './whole-runs.ts';

// With threads where the server allows it: they need the files of onnxruntime-web by themselves.
if (globalThis.crossOriginIsolated) {
  const threads = Number(new URLSearchParams(location.search).get('threads') ?? 2);
  configureRuntime({ wasm_paths: `${location.origin}/ort/`, threads });
}

/** What the tests run in the browser, and some of it in Node.js too. */
export const scenarios = {
  environment: () => ({ isolated: globalThis.crossOriginIsolated, cores: navigator.hardwareConcurrency }),
  deviceReports,
  trainPoints,
  trainUNet,
  trainAndExport,
  sampleAndMeasure,
  runInOpfs,
  trainUntilStopped,
  startOften,
  openByTransformers,
  evaluateDigits,
  evaluatePoints,
  openFiles,
  refusedFiles,
  gridOf,
  drawFrom,
  exerciseStore,
};
export type Scenarios = typeof scenarios;
export type ScenarioName = keyof Scenarios;
