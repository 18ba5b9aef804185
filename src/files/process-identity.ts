import * as z from 'zod';

export { isRunning, type ProcessIdentity, thisProcess } from '#platform/process';

export const processIdentitySchema = z.object({
  host: z.string().max(256),
  machine: z.string().max(64),
  pid: z.int().positive(),
  started: z.string().max(64).nullable(),
});

/** After so long without a sign of life, a process of another machine counts as ended. */
export const SILENT_MS = 3_600_000;
