import { readFileSync } from 'node:fs';
import type { OptimizerSettings } from '../../src/graph/optimizer.ts';

/** Ten steps of an optimizer by torch, or by numpy for Lion, with diffusers' EMA. */
export interface OptimizerCase {
  readonly name: string;
  readonly settings: OptimizerSettings;
  readonly learningRate: number;
  /** The global norm that gradients are clipped to. */
  readonly clipNorm: number | undefined;
  /** After each step. */
  readonly parameters: readonly Float32Array[];
  readonly averages: readonly Float32Array[];
}

type Tensors = Record<'w' | 'b' | 's', number[]>;
interface TorchCase {
  settings: { lr: number; betas: [number, number]; eps: number; weight_decay?: number };
  clip_norm: number | null;
  params_after: Tensors[];
  grad_norm_before_clip: number[];
  ema_after: Tensors[];
  ema_decay: number[];
}
interface Fixture extends Record<'adam' | 'adamw' | 'adamw_clip1', TorchCase> {
  init: Tensors;
  shapes: Record<'w' | 'b' | 's', number[]>;
  grads: Tensors[];
}
interface FurtherCase {
  name: string;
  optim: 'sgd' | 'lion';
  clip_norm: number | null;
  settings: { lr: number; momentum?: number; nesterov?: boolean; betas?: [number, number]; weight_decay?: number };
  params_after: number[][];
}

const read = (name: string) => JSON.parse(readFileSync(new URL(`../fixtures/optim/${name}`, import.meta.url), 'utf8'));
const fixture: Fixture = read('optimizers.json');
// By scripts/optimizer_reference.py, which has the command.
const further: FurtherCase[] = read('sgd_lion.json');

export const specs = (['w', 'b', 's'] as const).map((name) => ({ name, shape: fixture.shapes[name] }));
const joined = (tensors: Tensors) => Float32Array.from(specs.flatMap(({ name }) => tensors[name]));

/** The parameters before the first step. */
export const start = joined(fixture.init);
/** Of each step. */
export const gradients = fixture.grads.map(joined);
/** Norms of the gradients, and the decay of the average, at each step. */
export const norms = fixture.adamw_clip1.grad_norm_before_clip;
export const decays = fixture.adam.ema_decay;

export const optimizerCases: readonly OptimizerCase[] = [
  ...(['adam', 'adamw', 'adamw_clip1'] as const).map((name): OptimizerCase => {
    const { settings, clip_norm, params_after, ema_after } = fixture[name];
    const [beta1, beta2] = settings.betas;
    return {
      name,
      settings: { name: 'adam', beta1, beta2, epsilon: settings.eps, weight_decay: settings.weight_decay ?? 0 },
      learningRate: settings.lr,
      clipNorm: clip_norm ?? undefined,
      parameters: params_after.map(joined),
      averages: ema_after.map(joined),
    };
  }),
  ...further.map(({ name, optim, settings, clip_norm, params_after }): OptimizerCase => {
    const { lr, momentum = 0, nesterov = false, weight_decay = 0, betas: [beta1, beta2] = [0.9, 0.99] } = settings;
    return {
      name,
      settings:
        optim === 'sgd'
          ? { name: 'sgd', momentum, nesterov, weight_decay }
          : { name: 'lion', beta1, beta2, weight_decay },
      learningRate: lr,
      clipNorm: clip_norm ?? undefined,
      parameters: params_after.map((values) => Float32Array.from(values)),
      averages: averagesOf(params_after),
    };
  }),
];

/** diffusers' EMA of parameters, in float64. */
function averagesOf(parameters: readonly (readonly number[])[]): Float32Array[] {
  let average = Array.from(start);
  return parameters.map((values, step) => {
    const decay = decays[step] as number;
    average = average.map((value, i) => decay * value + (1 - decay) * (values[i] as number));
    return Float32Array.from(average);
  });
}

/** The largest difference, relative to 1 + |expected|. */
export function largestError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  return Math.max(
    ...Array.from(expected, (value, i) => Math.abs((actual[i] ?? Number.NaN) - value) / (1 + Math.abs(value))),
  );
}
