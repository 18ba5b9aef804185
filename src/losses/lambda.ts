import { InvalidArgumentError } from '../errors.ts';

/** @throws {InvalidArgumentError} unless `lambda` is a finite number >= 0. */
export function checkLambda(lambda: number): void {
  if (typeof lambda === 'number' && Number.isFinite(lambda) && lambda >= 0) return;
  throw new InvalidArgumentError(
    `lambda, the weight of the isotropy penalty, must be a finite number >= 0, but is ${String(lambda)} (0 gives the base loss, the paper uses up to 0.3)`,
  );
}
