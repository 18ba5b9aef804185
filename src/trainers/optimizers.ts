import { InvalidArgumentError } from '../errors.ts';
import type { OptimizerSettings } from '../graph/optimizer.ts';

// The optimizers by name, and the training arguments of each.

/** Values of `optim`: our names, and those of Hugging Face's Trainer for the same. */
export const OPTIMIZERS = ['adam', 'adamw', 'sgd', 'lion', 'adamw_torch', 'adamw_torch_fused', 'lion_32bit'] as const;
type GivenOptimizer = (typeof OPTIMIZERS)[number];

/** The training arguments that choose the optimizer. */
export interface OptimizerArguments {
  /**
   * 'adam' (default); 'adamw', Adam with decoupled weight decay; 'sgd', torch's SGD; or 'lion', which wants a smaller
   * learning rate. Hugging Face's 'adamw_torch', 'adamw_torch_fused' and 'lion_32bit' are other names of 'adamw' and 'lion'.
   */
  readonly optim?: GivenOptimizer | undefined;
  /** Decay of Adam's mean of gradients, 0 to below 1; default 0.9. */
  readonly adam_beta1?: number | undefined;
  /** Decay of Adam's mean of squared gradients, 0 to below 1; default 0.999. */
  readonly adam_beta2?: number | undefined;
  /** Added to Adam's denominator, above 0; default 1e-8. */
  readonly adam_epsilon?: number | undefined;
  /** Of 'sgd': share of the last step in the next one, 0 to below 1; default 0, which keeps no moment. */
  readonly momentum?: number | undefined;
  /** Of 'sgd' with a momentum: Nesterov's, which looks one momentum ahead; default false. */
  readonly nesterov?: boolean | undefined;
  /** Of 'lion': share of the moment in the direction of a step, 0 to below 1; default 0.9. */
  readonly lion_beta1?: number | undefined;
  /** Of 'lion': decay of the moment, 0 to below 1; default 0.99. */
  readonly lion_beta2?: number | undefined;
  /**
   * At least 0: decoupled weight decay of 'adamw' (default 0.01) and 'lion' (default 0), and the weight of an L2 penalty with
   * 'sgd' (default 0), as in torch. With 'adam' it must be 0 or left out.
   */
  readonly weight_decay?: number | undefined;
  /** The optimizer's step size, at least 0; default 1e-3, and 1e-4 with 'lion'. */
  readonly learning_rate?: number | undefined;
}

/** The arguments of the optimizer alone, with their defaults: a run records them. */
type ResolvedOptimizer = { readonly learning_rate: number; readonly weight_decay: number } & (
  | {
      readonly optim: 'adam' | 'adamw';
      readonly adam_beta1: number;
      readonly adam_beta2: number;
      readonly adam_epsilon: number;
    }
  | { readonly optim: 'sgd'; readonly momentum: number; readonly nesterov: boolean }
  | { readonly optim: 'lion'; readonly lion_beta1: number; readonly lion_beta2: number }
);

/** The optimizers that have an argument. */
const OPTIMIZERS_OF: Readonly<Record<string, readonly string[]>> = {
  adam_beta1: ['adam', 'adamw'],
  adam_beta2: ['adam', 'adamw'],
  adam_epsilon: ['adam', 'adamw'],
  momentum: ['sgd'],
  nesterov: ['sgd'],
  lion_beta1: ['lion'],
  lion_beta2: ['lion'],
};

/** @throws {InvalidArgumentError} when an argument of another optimizer is given, or two do not go together. */
export function resolveOptimizer(args: OptimizerArguments & { readonly optim: GivenOptimizer }): ResolvedOptimizer {
  const optim = plainName(args.optim);
  for (const [key, optimizers] of Object.entries(OPTIMIZERS_OF)) {
    const value = args[key as keyof OptimizerArguments];
    if (value === undefined || optimizers.includes(optim)) continue;
    const names = optimizers.map((name) => `'${name}'`).join(' and ');
    const instead = key.replace('adam_', 'lion_');
    const advice = optim === 'lion' && instead in OPTIMIZERS_OF ? `use ${instead}` : 'leave one of them out';
    throw new InvalidArgumentError(`${key} is ${value}, but belongs to optim ${names}, not to '${optim}': ${advice}`);
  }
  const { learning_rate = optim === 'lion' ? 1e-4 : 1e-3, weight_decay = optim === 'adamw' ? 0.01 : 0 } = args;
  switch (optim) {
    case 'adam':
    case 'adamw': {
      if (optim === 'adam' && weight_decay !== 0)
        throw new InvalidArgumentError(`weight_decay is ${weight_decay}, but optim 'adam' has none: use optim 'adamw'`);
      const { adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8 } = args;
      return { optim, learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon };
    }
    case 'sgd': {
      const { momentum = 0, nesterov = false } = args;
      if (nesterov && momentum === 0)
        throw new InvalidArgumentError('nesterov is true, but there is no momentum: set momentum, such as 0.9');
      return { optim, learning_rate, weight_decay, momentum, nesterov };
    }
    case 'lion': {
      const { lion_beta1 = 0.9, lion_beta2 = 0.99 } = args;
      return { optim, learning_rate, weight_decay, lion_beta1, lion_beta2 };
    }
  }
}

function plainName(optim: GivenOptimizer) {
  switch (optim) {
    case 'adamw_torch':
    case 'adamw_torch_fused':
      return 'adamw';
    case 'lion_32bit':
      return 'lion';
    default:
      return optim;
  }
}

/** The optimizer as a step takes it. */
export function optimizerSettings(args: ResolvedOptimizer): OptimizerSettings {
  const { weight_decay } = args;
  switch (args.optim) {
    case 'adam':
    case 'adamw': {
      const { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon } = args;
      return { name: 'adam', beta1, beta2, epsilon, weight_decay };
    }
    case 'sgd':
      return { name: 'sgd', momentum: args.momentum, nesterov: args.nesterov, weight_decay };
    case 'lion':
      return { name: 'lion', beta1: args.lion_beta1, beta2: args.lion_beta2, weight_decay };
  }
}
