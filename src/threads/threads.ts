import { cores, hasThreads } from '#threads/scripts';
import { InvalidArgumentError } from '../errors.ts';

let limit: number | undefined;

/**
 * Bounds the cpu threads of this process: those of one op in every session made from now on, and the sessions that
 * samplers run side by side. For processes that share a machine, and where a result must not depend on its cores.
 *
 * @throws {InvalidArgumentError} unless `count` is a whole number of at least 1.
 */
export function limitThreads(count: number): void {
  if (!Number.isInteger(count) || count < 1)
    throw new InvalidArgumentError(`${count} threads: the number must be a whole number of at least 1`);
  limit = count;
}

/** What `limitThreads` set; undefined where onnxruntime chooses. */
export function threadLimit(): number | undefined {
  return limit;
}

/** How many sessions of one thread may run side by side. In a browser it is one, whose ops may have several threads. */
export function parallelSessions(): number {
  return hasThreads ? (limit ?? cores()) : 1;
}
