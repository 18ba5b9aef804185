import * as z from '../zod.ts';

export { isRunning, type ProcessIdentity, thisProcess } from '#platform/process';

export const processIdentitySchema = z.object({
  host: z.string().check(z.maxLength(256)),
  machine: z.string().check(z.maxLength(64)),
  pid: z.int().check(z.positive()),
  started: z.nullable(z.string().check(z.maxLength(64))),
});

/** After so long without a sign of life, a process of another machine counts as ended. */
export const SILENT_MS = 3_600_000;
