import { DeviceError } from '../../errors.ts';
import type { Channel } from '../channel.ts';

// A bundler puts this package into one file, and a worker needs a file of its own, which only the page can name. So all
// runs in the thread that calls: a page that wants its own thread free calls from a worker.

export const hasThreads = false;

export const cores = (): number => 1;

/** @throws {DeviceError} always: whoever calls asks `hasThreads` first. */
export function startScript<Request, Answer, Event = never>(script: string): Channel<Request, Answer, Event> {
  throw new DeviceError(`'${script}' cannot run in a thread of its own in a browser`);
}
