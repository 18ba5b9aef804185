import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { listSupportedBackends } from 'onnxruntime-node';
import { loadKoffi } from '../../distributed/mpi/library.ts';
import { DeviceError, errorText } from '../../errors.ts';
import { resolveDependency } from '../../files/package-files.ts';
import { nativeBytes, nativeOrt } from './binding.ts';
import { type GpuProvider, gpuComputes } from './gpu-probe.ts';

/** What to do where a GPU cannot be used. */
export const GPU_ADVICE = {
  webgpu:
    'No usable GPU adapter was found. On Linux install the Vulkan loader and a driver (Debian: apt-get install libvulkan1 mesa-vulkan-drivers; NVIDIA: its driver package).',
  cuda: 'The CUDA libraries of onnxruntime are missing: run `node node_modules/onnxruntime-node/script/install.js` with network access (it fetches them for Linux x64), and install CUDA with cuDNN 9.',
} as const;

/** Where `device: 'auto'` that ends on the cpu sends the reader. */
export const WHERE_TO_LOOK = '`iso-diffusion doctor` says what is missing';

/**
 * What is missing for the cpu; undefined where it computes. Where onnxruntime-node has no binary for the platform, it
 * cannot even be imported.
 *
 * @param doubling a model that computes y = x + x of one float.
 */
export async function tryCpu(doubling: Uint8Array): Promise<string | undefined> {
  try {
    const { InferenceSession, Tensor } = nativeOrt();
    const session = await InferenceSession.create(nativeBytes(doubling), { executionProviders: ['cpu'] });
    const feeds = { x: new Tensor('float32', [1], [1]) };
    await session.run(feeds);
    await session.release();
    return undefined;
  } catch (cause) {
    return cause instanceof DeviceError ? cause.message : `onnxruntime-node does not compute: ${errorText(cause)}`;
  }
}

/** What is missing for a GPU; undefined where it computes. @param doubling as for {@link tryCpu}. */
export async function tryGpu(provider: GpuProvider, doubling: Uint8Array): Promise<string | undefined> {
  const device = typeof provider === 'string' ? provider : provider.name;
  const mayWork =
    listSupportedBackends().some(({ name }) => name === device) && (device !== 'cuda' || hasCudaProvider());
  return mayWork && (await gpuComputes(provider, doubling)) ? undefined : GPU_ADVICE[device];
}

/** Processes that this one starts, such as those of `reproduce`, have it too. */
const DEVICE_ID = 'ISO_DIFFUSION_DEVICE_ID';

/** The GPU of cuda that was chosen for this process; undefined where none was. */
export function chosenDeviceId(): number | undefined {
  const { [DEVICE_ID]: id = '' } = process.env;
  return /^\d{1,4}$/.test(id) ? Number(id) : undefined;
}

/** The GPU of cuda that is taken from now on where nothing else is asked for. */
export function chooseDeviceId(device_id: number): void {
  process.env[DEVICE_ID] = String(device_id);
}

/**
 * How many GPUs of cuda this process sees, as the driver counts them: `CUDA_VISIBLE_DEVICES` is respected. Undefined without
 * koffi, through which the driver is asked, and without a driver.
 */
export async function cudaDeviceCount(): Promise<number | undefined> {
  try {
    const driver = loadKoffi().load('libcuda.so.1');
    const count = [0];
    const failed = driver.func('int cuInit(unsigned int flags)')(0);
    return failed || driver.func('int cuDeviceGetCount(_Out_ int *count)')(count) ? undefined : count[0];
  } catch {
    return undefined;
  }
}

/** Bytes of memory of the smallest NVIDIA card; undefined where there is no nvidia-smi. */
export async function cardMemory(): Promise<number | undefined> {
  const query = ['--query-gpu=memory.total', '--format=csv,noheader,nounits'];
  const { stdout } = await promisify(execFile)('nvidia-smi', query).catch(() => ({ stdout: '' }));
  const sizes = stdout
    .split('\n')
    .map(Number)
    .filter((mebibytes) => mebibytes > 0);
  return sizes.length > 0 ? Math.min(...sizes) * 2 ** 20 : undefined;
}

/** onnxruntime names cuda as a backend wherever it could be, also without the provider's library beside it. */
function hasCudaProvider(): boolean {
  const root = path.dirname(resolveDependency('onnxruntime-node/package.json'));
  const folder = path.join(root, 'bin', 'napi-v6', process.platform, process.arch);
  return existsSync(folder) && readdirSync(folder).some((file) => file.includes('onnxruntime_providers_cuda'));
}
