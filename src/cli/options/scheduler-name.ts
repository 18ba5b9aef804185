import { InvalidArgumentError } from '../../errors.ts';
import { DDPMScheduler, type DiffusionScheduler, schedulerFromConfig } from '../../schedulers/index.ts';

/** The scheduler that `--scheduler` names, with the model's noise schedule; without a name the model's own. */
export function schedulerNamed(
  { scheduler, eta }: { readonly scheduler?: 'ddpm' | 'ddim' | undefined; readonly eta?: number | undefined },
  own: DiffusionScheduler,
): DiffusionScheduler {
  const className = { ddpm: 'DDPMScheduler', ddim: 'DDIMScheduler' }[scheduler ?? 'ddpm'];
  const chosen = scheduler ? schedulerFromConfig({ ...own.toConfig(), _class_name: className }) : own;
  if (eta !== undefined && chosen instanceof DDPMScheduler)
    throw new InvalidArgumentError(`--eta is ${eta}, but DDPM has none: add --scheduler ddim`);
  return chosen;
}
