import { availableParallelism } from 'node:os';
import { packageScript } from '../../files/package-files.ts';
import { type Channel, startThread } from '../channel.ts';

/** Whether `startScript` can start a thread here. */
export const hasThreads = true;

/** Threads that run at the same time. */
export const cores: () => number = availableParallelism;

/**
 * Starts a thread that runs a script of this package.
 *
 * @param script the path of its source below `src/`. It ends in `serve`.
 * @param data what the script finds in `workerData`.
 */
export function startScript<Request, Answer, Event = never>(
  script: string,
  data: unknown,
): Channel<Request, Answer, Event> {
  return startThread(packageScript(script), data);
}
