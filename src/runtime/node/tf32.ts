import { existsSync, readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { DeviceError } from '../../errors.ts';
import { mainRealm } from './binding.ts';

/**
 * NVIDIA's libraries read it when they are loaded. It is the only way: onnxruntime's own option `use_tf32` cannot be
 * given from Node.js.
 */
const VARIABLE = 'NVIDIA_TF32_OVERRIDE';

/** The environment of the process: Jest gives its tests a copy, which libraries do not see. */
const environment = () => mainRealm.process.env;

/** Whether cuda multiplies float32 in TF32. */
export const usesTf32 = (): boolean => environment()[VARIABLE] !== '0';

/** @throws {DeviceError} where it comes too late: CUDA is loaded already, or the environment is that of a worker thread. */
export function setTf32(enabled: boolean): void {
  if (enabled === usesTf32()) return;
  const instead = `start a new process ${enabled ? `without ${VARIABLE}` : `with ${VARIABLE}=0`} in its environment`;
  if (!isMainThread)
    throw new DeviceError(
      `tf32: ${enabled} has no effect in a worker thread, whose environment is a copy: call configureRuntime({ tf32: ${enabled} }) in the main thread first, or ${instead}`,
    );
  if (isCudaLoaded())
    throw new DeviceError(
      `tf32: ${enabled} comes too late: this process has loaded CUDA, which reads ${VARIABLE} once: set tf32 before anything runs on cuda, or ${instead}`,
    );
  if (enabled) delete environment()[VARIABLE];
  else environment()[VARIABLE] = '0';
}

/** onnxruntime-node has cuda on Linux alone. */
function isCudaLoaded(): boolean {
  const file = '/proc/self/maps';
  return (
    existsSync(file) && /lib(onnxruntime_providers_cuda|cublas|cublasLt|cudnn)\.so/.test(readFileSync(file, 'latin1'))
  );
}
