import { type Communicator, SINGLE } from '../communicator.ts';

/** A page is by itself. */
export const world = (): Communicator => SINGLE;
