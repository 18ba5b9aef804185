/** Whether Ctrl-C reaches this thread: a browser has none. */
export const receivesSignals = false;

/** As in Node, where nothing interrupts. */
export function withDeferredInterrupt<T>(_notice: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return work(new AbortController().signal);
}
