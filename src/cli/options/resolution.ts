import { z } from 'zod';

const side = z.int('must be a side in pixels, such as 64, or HEIGHTxWIDTH').min(1).max(8192);

/** A side in pixels, or "HEIGHTxWIDTH"; in a config file also [height, width]. */
export const resolutionSchema = z.union(
  [
    side,
    z.tuple([side, side]),
    z
      .string()
      .regex(/^\d+x\d+$/)
      .transform((text) => text.split('x').map(Number))
      .pipe(z.tuple([side, side])),
  ],
  'must be a side in pixels, such as 64, or HEIGHTxWIDTH, such as 48x64',
);
