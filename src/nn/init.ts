import type { ParameterSpec } from '../models/model.ts';
import type { RandomStream } from '../random/random-stream.ts';

/**
 * Weight [outFeatures, inFeatures] and bias [outFeatures] of a dense layer, initialised as torch's nn.Linear: both
 * uniform in +-1/sqrt(inFeatures), which is what `kaiming_uniform_(a=sqrt(5))` comes to.
 */
export function linearParameters(name: string, inFeatures: number, outFeatures: number): ParameterSpec[] {
  const bound = 1 / Math.sqrt(inFeatures);
  const init = (stream: RandomStream, target: Float32Array) => {
    for (let i = 0; i < target.length; i++) target[i] = bound * (2 * stream.uniform() - 1);
  };
  return [
    { name: `${name}.weight`, shape: [outFeatures, inFeatures], init },
    { name: `${name}.bias`, shape: [outFeatures], init },
  ];
}
