import { DeviceError } from '../../errors.ts';
import type { WorkerSession } from '../worker-session.ts';

/** @throws {DeviceError} always: `parallelSessions()` is 1 in a browser, where a session itself has the threads. */
export function startSession(): WorkerSession {
  throw new DeviceError('a session cannot run in a thread of its own in a browser');
}
