import { execFile } from 'node:child_process';
import { resolveDependency } from '../../files/package-files.ts';

/** A GPU as sessions of onnxruntime take it; the number of one of several is `deviceId`. */
export type GpuProvider = 'webgpu' | 'cuda' | { readonly name: 'cuda'; readonly deviceId: number };

/** Loading the driver of a GPU for the first time takes seconds. */
const TIMEOUT_MS = 60_000;

/**
 * Runs in the child. Text and not a script of its own, so that a bundle of this package has it too. It ends by
 * `process.exit`, because the threads of a driver may outlive their work.
 */
const PROGRAM = `
const [, entry, provider, model] = process.argv;
const { InferenceSession, Tensor } = require(entry);
(async () => {
  const options = { executionProviders: [JSON.parse(provider)], logSeverityLevel: 4 };
  const session = await InferenceSession.create(Buffer.from(model, 'base64'), options);
  const { y } = await session.run({ x: new Tensor('float32', Float32Array.of(1), [1]) });
  process.exit(y.data[0] === 2 ? 0 : 1);
})().catch(() => process.exit(1));
`;

/**
 * Whether onnxruntime can run a model on a GPU. It is tried in a process of its own: where there is no GPU, the Vulkan
 * loader and Dawn write their complaints to the stderr of the process, and a broken driver can end it.
 *
 * @param doubling a model that computes y = x + x of one float.
 */
export function gpuComputes(provider: GpuProvider, doubling: Uint8Array): Promise<boolean> {
  const model = Buffer.from(doubling).toString('base64');
  const args = ['--eval', PROGRAM, resolveDependency('onnxruntime-node'), JSON.stringify(provider), model];
  // Electron's own executable is Node.js only with this variable.
  const env = { ...process.env, ELECTRON_RUN_AS_NODE: '1' };
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env, timeout: TIMEOUT_MS, killSignal: 'SIGKILL', windowsHide: true }, (error) =>
      resolve(error === null),
    );
  });
}
