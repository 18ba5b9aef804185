import { readFileSync } from 'node:fs';
import type { KernelFunc } from '@tensorflow/tfjs-core';
import { tf } from './load-tf.ts';

interface BackendKernels {
  readonly version: string;
  /** The tfjs that it depends on, whose core has the gradients. */
  readonly tfjs: string;
  readonly kernels: readonly string[];
}
const fixture = new URL('../../fixtures/tfjs/kernels.json', import.meta.url);
/** Written by scripts/tfjs-kernels.ts from the packages' own sources. */
export const backends: Readonly<Record<string, BackendKernels>> = JSON.parse(readFileSync(fixture, 'utf8')).packages;

/** The name of the backend of tfjs-node and tfjs-node-gpu. */
export const NODE_BACKEND = 'tensorflow';

/**
 * Gives tfjs the backend of tfjs-node, and selects it: the kernels that tfjs-node registers and no others, computed by
 * those of the cpu backend. Each refuses what it refuses in tfjs-node. Use it in a test file of its own.
 */
export async function useNodeBackend(): Promise<void> {
  const names = backends['@tensorflow/tfjs-node']?.kernels ?? [];
  tf.registerBackend(NODE_BACKEND, tf.findBackendFactory('cpu'), 3);
  for (const kernelName of names) {
    const { kernelFunc } = tf.getKernel(kernelName, 'cpu');
    const restricted: KernelFunc = (params) => {
      const refusal = refusalOf(kernelName, params);
      if (refusal) throw new Error(`${kernelName} of tfjs-node: ${refusal}`);
      return kernelFunc(params);
    };
    tf.registerKernel({ kernelName, backendName: NODE_BACKEND, kernelFunc: restricted });
  }
  if (!(await tf.setBackend(NODE_BACKEND))) throw new Error(`tfjs does not take the backend '${NODE_BACKEND}'`);
}

/** What a kernel of tfjs-node or of TensorFlow says against a call; undefined for one that it computes. */
function refusalOf(name: string, { attrs = {}, inputs }: Parameters<KernelFunc>[0]): string | undefined {
  // Conv2D alone would take pads as numbers, but its gradients do not (kernels/Conv2DBackpropInput.ts and -Filter.ts).
  if (attrs.pad !== undefined && attrs.pad !== 'valid' && attrs.pad !== 'same')
    return `the pads are ${JSON.stringify(attrs.pad)}, not 'valid' or 'same'`;
  // TensorFlow's own kernels on the CPU.
  if (attrs.dataFormat !== undefined && attrs.dataFormat !== 'NHWC' && attrs.dataFormat !== 'NDHWC')
    return `the layout is ${attrs.dataFormat}, not NHWC`;
  const { a, b, condition, t, e } = inputs;
  // One attribute T stands for the dtype of both operands.
  for (const [one, other] of [[a, b] as const, [t, e] as const])
    if (one && other && one.dtype !== other.dtype) return `the dtypes are ${one.dtype} and ${other.dtype}`;
  if (name === 'Select') {
    const shapes = [condition, t, e].map((input) => JSON.stringify(input?.shape));
    if (new Set(shapes).size !== 1) return `the shapes are ${shapes.join(', ')}, and it does not broadcast`;
  }
  return undefined;
}
