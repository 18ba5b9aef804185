/** Lets the events that wait be handled. A timer would do it too, but browsers make nested timers wait 4 ms. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

/** What `on_warning` does where the caller names nothing. */
export const warn = (message: string): void => console.warn(message);

/** Unpredictable bytes, for names that nobody else may choose. */
export const randomBytes = (count: number): Uint8Array => crypto.getRandomValues(new Uint8Array(count));
