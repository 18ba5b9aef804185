import { isMainThread } from 'node:worker_threads';

/** The exit status of a process that Ctrl-C ended. */
export const INTERRUPTED_STATUS = 130;

/** Whether Ctrl-C reaches this thread. */
export const receivesSignals = isMainThread;

/** The mpirun of Open MPI, when it is interrupted, wakes its processes by SIGCONT, and sends SIGTERM a second later. */
const isRank = process.env.OMPI_COMM_WORLD_RANK !== undefined;
const SIGNALS: readonly InterruptSignal[] = isRank ? ['SIGINT', 'SIGTERM', 'SIGCONT'] : ['SIGINT', 'SIGTERM'];
type InterruptSignal = 'SIGINT' | 'SIGTERM' | 'SIGCONT';

/** The user pressed Ctrl-C, or the process got a SIGTERM. */
export class InterruptedError extends Error {
  /** @param signal which one it was, where `withInterrupt` made the error. */
  constructor(
    message: string,
    readonly signal?: InterruptSignal,
  ) {
    super(message);
  }
}

/**
 * Runs `work` with a signal that the first Ctrl-C or SIGTERM aborts. The second one exits at once, but not where mpirun
 * sends several by itself.
 *
 * @param notice is written to stderr then; '' writes nothing.
 */
export async function withInterrupt<T>(notice: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onInterrupt = (signal: InterruptSignal) => {
    if (controller.signal.aborted) {
      if (isRank) return;
      process.exit(INTERRUPTED_STATUS);
    }
    if (notice !== '') process.stderr.write(`\n${notice}\n`);
    controller.abort(new InterruptedError('interrupted', signal));
  };
  for (const signal of SIGNALS) process.on(signal, onInterrupt);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of SIGNALS) process.off(signal, onInterrupt);
  }
}

/**
 * As `withInterrupt`, for a library. Afterwards a signal that came has its usual effect on the process, unless the program
 * listens for it too.
 */
export async function withDeferredInterrupt<T>(notice: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  let received: unknown;
  const result = await withInterrupt(notice, (signal) => {
    signal.addEventListener('abort', () => {
      received = signal.reason;
    });
    return work(signal);
  });
  const name = received instanceof InterruptedError ? received.signal : undefined;
  if (name !== undefined && process.listenerCount(name) === 0)
    process.kill(process.pid, name === 'SIGCONT' ? 'SIGTERM' : name);
  return result;
}
