import { randomBytes } from 'node:crypto';
import { totalmem } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export { randomUUID } from 'node:crypto';

/** Lets the events that wait be handled: input, messages, timers. */
export const nextTurn = (): Promise<void> => setImmediate();

/** What `on_warning` does where the caller names nothing. */
export const warn = (message: string): void => process.emitWarning(message);

/** 12 hexadecimal digits that nobody else chooses, for names. */
export const randomDigits = (): string => randomBytes(6).toString('hex');

/** Whether files are those of Windows, where folders are not opened. */
export const isWindows: boolean = process.platform === 'win32';

/** Whether somebody reads stderr as it is written. */
export const hasTerminal = (): boolean => process.stderr.isTTY;

/** Bytes of memory that the machine, or the container, has; undefined where that is not known. */
export const machineMemory = (): number | undefined => Math.min(totalmem(), process.constrainedMemory() || totalmem());

/** A variable of the environment; undefined where it is not set or empty. */
export const environmentVariable = (name: string): string | undefined => process.env[name] || undefined;

/**
 * Frees at once what nothing refers to any more. V8 frees typed arrays only when it needs room itself, and a training
 * step asks it for next to none: what set a run up (initial values, the vectors of a checkpoint) would stay to its end.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}
