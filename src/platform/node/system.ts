import { randomBytes as cryptoBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

/** Lets the events that wait be handled: input, messages, timers. */
export const nextTurn = (): Promise<void> => setImmediate();

/** What `on_warning` does where the caller names nothing. */
export const warn = (message: string): void => process.emitWarning(message);

/** Unpredictable bytes, for names that nobody else may choose. */
export const randomBytes = (count: number): Uint8Array => cryptoBytes(count);
