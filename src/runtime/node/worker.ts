import { WorkerSession } from '../worker-session.ts';

export { openInThread } from '../worker-session.ts';

/** A session of one core, in a thread of its own. */
export const startSession = (model: Uint8Array): WorkerSession => new WorkerSession(model, 1);
