/** The exit status of a process that Ctrl-C ended. */
export const INTERRUPTED_STATUS = 130;

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** The user pressed Ctrl-C. */
export class InterruptedError extends Error {}

/** Runs `work` with a signal that the first Ctrl-C or SIGTERM aborts. The second one exits at once. */
export async function withInterrupt<T>(notice: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onInterrupt = () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED_STATUS);
    process.stderr.write(`\n${notice}\n`);
    controller.abort(new InterruptedError('interrupted'));
  };
  for (const signal of SIGNALS) process.on(signal, onInterrupt);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of SIGNALS) process.off(signal, onInterrupt);
  }
}
