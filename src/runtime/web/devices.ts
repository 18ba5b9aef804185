import { errorText } from '../../errors.ts';
import { nativeOrt } from './binding.ts';

/** What to do where a GPU cannot be used. */
export const GPU_ADVICE = {
  webgpu: 'This browser gives this page no WebGPU adapter: use a current Chrome, Edge, Firefox or Safari over https.',
  cuda: 'CUDA cannot be used in a browser: webgpu runs on the same GPU.',
} as const;

/** Where `device: 'auto'` that ends on the cpu sends the reader. */
export const WHERE_TO_LOOK = '`deviceReports()` says what is missing';

/** What is missing for the cpu, which is WebAssembly here; undefined where it computes. */
export function tryCpu(doubling: Uint8Array): Promise<string | undefined> {
  return tried('wasm', doubling);
}

/** What is missing for a GPU; undefined where it computes. */
export async function tryGpu(provider: 'webgpu' | 'cuda' | object, doubling: Uint8Array): Promise<string | undefined> {
  if (provider !== 'webgpu') return GPU_ADVICE.cuda;
  const { gpu } = navigator;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) return GPU_ADVICE.webgpu;
  return tried('webgpu', doubling);
}

/** There are none to choose from. */
export const chosenDeviceId = (): number | undefined => undefined;
export function chooseDeviceId(_device_id: number): void {}

/** There are none. */
export const cudaDeviceCount = async (): Promise<number | undefined> => undefined;

/** Not known. */
export const cardMemory = async (): Promise<number | undefined> => undefined;

async function tried(provider: 'wasm' | 'webgpu', doubling: Uint8Array): Promise<string | undefined> {
  try {
    const { InferenceSession, Tensor } = nativeOrt();
    const session = await InferenceSession.create(doubling, { executionProviders: [provider] });
    const { y } = await session.run({ x: new Tensor('float32', [1], [1]) });
    await session.release();
    if (y?.data[0] === 2) return undefined;
    return `onnxruntime-web does not compute on ${provider}: 1 + 1 is ${y?.data[0]}`;
  } catch (cause) {
    return `onnxruntime-web does not compute on ${provider}: ${errorText(cause)}. Its .wasm files have to be served beside the page, or where configureRuntime({ wasm_paths }) says.`;
  }
}
