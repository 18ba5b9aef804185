import * as ort from '#ort';
import { isFixed } from '#runtime/binding';
import { chooseDeviceId } from '#runtime/devices';
import { setTf32 } from '#runtime/tf32';
import { requireBoolean, requireObject, requireText } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { limitThreads } from '../threads/threads.ts';
import { deviceIdOption } from './device.ts';
import { allowFallback } from './session.ts';

/** Settings of all sessions of the process, for `configureRuntime`. */
export interface RuntimeOptions {
  /**
   * Threads of one op, a whole number of at least 1. Default: in Node.js one a physical core. In a browser up to 4 where
   * `wasm_paths` is set and the page is served with the headers COOP and COEP, without which it is always 1.
   */
  readonly threads?: number | undefined;
  /**
   * In a browser the URL of the folder that holds `ort-wasm-simd-threaded.asyncify.mjs` and `.wasm` of onnxruntime-web;
   * it ends in '/'. Default: the `.wasm` file where the bundler put it, or beside the bundle. Without effect in Node.js.
   */
  readonly wasm_paths?: string | undefined;
  /**
   * Whether the device `cuda` multiplies float32 in TF32, with 10 bits of mantissa instead of 23: faster, and less exact.
   * Default: as the environment says, true unless `NVIDIA_TF32_OVERRIDE` is 0. Without effect on other devices.
   */
  readonly tf32?: boolean | undefined;
  /**
   * Which GPU the device `cuda` is where nothing else is asked for, from 0 among those that the process sees
   * (`CUDA_VISIBLE_DEVICES`). Default: 0, and with several ranks on a machine each its own. Without effect on other devices.
   */
  readonly device_id?: number | undefined;
  /**
   * Whether nodes that `cuda` or `webgpu` cannot run may run on the cpu, with copies from and to the GPU at every call.
   * Default: false, a model with such nodes is refused.
   */
  readonly cpu_fallback?: boolean | undefined;
}

/**
 * Sets how models are run, for all of this page or process. In a browser call it before anything else: the first model
 * fixes it. (Threads need `wasm_paths` there, because without it each thread would run the page's own script again.)
 *
 * @throws {InvalidArgumentError} for a wrong value, or in a browser once a model was loaded.
 * @throws {DeviceError} for another `tf32` than so far once CUDA was loaded, and in a worker thread.
 * @example
 * configureRuntime({ wasm_paths: '/assets/', threads: 2 });
 */
export function configureRuntime(options: RuntimeOptions): void {
  requireObject('the options of configureRuntime()', options);
  const { threads, wasm_paths, tf32, device_id, cpu_fallback } = options;
  if (isFixed())
    throw new InvalidArgumentError(
      'configureRuntime() comes too late: onnxruntime-web has loaded a model already. Call it first',
    );
  if (wasm_paths !== undefined) requireText('wasm_paths', wasm_paths);
  if (tf32 !== undefined) {
    requireBoolean('tf32', tf32);
    setTf32(tf32);
  }
  if (device_id !== undefined) {
    if (!deviceIdOption.safeParse(device_id).success)
      throw new InvalidArgumentError(`device_id is ${device_id}, but must be a whole number from 0 to 1023`);
    chooseDeviceId(device_id);
  }
  if (cpu_fallback !== undefined) {
    requireBoolean('cpu_fallback', cpu_fallback);
    allowFallback(cpu_fallback);
  }
  if (threads !== undefined) limitThreads(threads);
  if (wasm_paths !== undefined) ort.env.wasm.wasmPaths = wasm_paths;
}
