import { configureRuntime } from '../../src/runtime/configure.ts';
import { jax } from './jax.ts';
import { ours } from './ours.ts';
import type { Contender } from './task.ts';
import { tfjs } from './tfjs.ts';

const contenders = {
  'ours wasm': (batch: number) => ours('wasm', batch),
  'ours webgpu': (batch: number) => ours('webgpu', batch),
  'jax-js wasm': (batch: number) => jax('wasm', batch),
  'jax-js webgpu': (batch: number) => jax('webgpu', batch),
  'tfjs wasm': (batch: number) => tfjs('wasm', batch),
  'tfjs webgl': (batch: number) => tfjs('webgl', batch),
  'tfjs webgpu': (batch: number) => tfjs('webgpu', batch),
};
export type ContenderName = keyof typeof contenders;

declare global {
  /** Makes a contender, with its first step. @returns the loss of the first step, and the seconds that it took. */
  var prepare: (name: ContenderName, batch: number) => Promise<{ loss: number; seconds: number }>;
  /** Takes the next steps. */
  var steps: (count: number) => Promise<{ loss: number; seconds: number }>;
}

if (globalThis.crossOriginIsolated) configureRuntime({ wasm_paths: `${location.origin}/ort/` });

let contender: Contender | undefined;
let done = 0;

globalThis.prepare = async (name, batch) => {
  const start = performance.now();
  contender = await contenders[name](batch);
  const loss = await contender.run(0, 1);
  done = 1;
  return { loss, seconds: (performance.now() - start) / 1000 };
};

globalThis.steps = async (count) => {
  const start = performance.now();
  const loss = (await contender?.run(done, count)) ?? Number.NaN;
  done += count;
  return { loss, seconds: (performance.now() - start) / 1000 };
};
