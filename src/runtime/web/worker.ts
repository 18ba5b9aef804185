import { DeviceError } from '../../errors.ts';
import type { OpenSession, WorkerSession } from '../worker-session.ts';

/** @throws {DeviceError} always: `parallelSessions()` is 1 in a browser, where a session itself has the threads. */
export function startSession(): WorkerSession {
  throw new DeviceError('a session cannot run in a thread of its own in a browser');
}

/** @throws {DeviceError} always: whoever calls asks `hasThreads` first. */
export async function openInThread(): Promise<OpenSession> {
  throw new DeviceError('a session cannot run in a thread of its own in a browser');
}
