import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Frees at once what nothing refers to any more. V8 frees typed arrays only when it needs room itself, and a training
 * step asks it for next to none: what set a run up (initial values, the vectors of a checkpoint) would stay to its end.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}
