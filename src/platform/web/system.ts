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

/** 12 hexadecimal digits that nobody else chooses, for names. */
export function randomDigits(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A random UUID, also on pages without https, where browsers have no `randomUUID`. */
export const randomUUID = (): string =>
  [8, 4, 4, 4, 12].map((digits) => (randomDigits() + randomDigits()).slice(0, digits)).join('-');

/** Whether files are those of Windows, where folders are not opened. */
export const isWindows = false;

/** Whether somebody reads stderr as it is written. */
export const hasTerminal = (): boolean => false;

/** Bytes of memory; browsers do not say. */
export const machineMemory = (): number | undefined => undefined;

/** A variable of the environment; a browser has none. */
export const environmentVariable = (_name: string): string | undefined => undefined;

/** A browser decides by itself when to free what nothing refers to. */
export function collectGarbage(): void {}
