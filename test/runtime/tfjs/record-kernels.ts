import type { Attribute, NamedTensorInfoMap } from '@tensorflow/tfjs-core';
import { tf } from './load-tf.ts';

/** One run of a kernel. */
export interface KernelRun {
  readonly name: string;
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly inputs: NamedTensorInfoMap;
}

/**
 * Has tfjs note every kernel of a backend and every gradient function that it runs from now on. It is not taken back:
 * use it in a test file of its own.
 */
export function recordKernels(backend: string): { readonly kernels: KernelRun[]; readonly gradients: Set<string> } {
  const kernels: KernelRun[] = [];
  const gradients = new Set<string>();
  for (const config of tf.getKernelsForBackend(backend)) {
    const name = config.kernelName;
    tf.unregisterKernel(name, backend);
    tf.registerKernel({
      ...config,
      kernelFunc: (params) => {
        kernels.push({ name, attributes: params.attrs ?? {}, inputs: params.inputs });
        return config.kernelFunc(params);
      },
    });
    const gradient = tf.getGradient(name);
    if (!gradient) continue;
    tf.unregisterGradient(name);
    tf.registerGradient({
      ...gradient,
      gradFunc: (dy, saved, attributes) => {
        gradients.add(name);
        return gradient.gradFunc(dy, saved, attributes);
      },
    });
  }
  return { kernels, gradients };
}
