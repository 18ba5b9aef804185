import { bytesOf } from '../platform/bytes.ts';

/**
 * What the processes of a run, its ranks, say to each other. All ranks make the same calls in the same order, and each call
 * returns when all have made it, unless it says otherwise.
 */
export interface Communicator {
  /** The number of this process, from 0. Rank 0 alone writes files, logs and progress. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** The number of this process, from 0, among those of its machine that see the same GPUs (`CUDA_VISIBLE_DEVICES`). */
  readonly localRank: number;
  /** How many these are. */
  readonly localSize: number;
  /** Rank 0's bytes, written into those of all others. */
  broadcast(bytes: Uint8Array): Promise<void>;
  /** Writes the bytes of each rank, as many from each, into `all`, in the order of the ranks. `own` may lie in its place there. */
  allGather(own: Uint8Array, all: Uint8Array): Promise<void>;
  /** Writes the bytes of each rank, as many from each, into rank 0's `all`. That of the others is not touched. */
  gather(own: Uint8Array, all: Uint8Array): Promise<void>;
  /** Part r of `parts`, which are as long as each other, goes to rank r. `received` gets the part that each rank had for this one. */
  allToAll(parts: Uint8Array, received: Uint8Array): Promise<void>;
  /** Waits for all. */
  barrier(): Promise<void>;
  /**
   * All ranks have agreed to stop: one that was interrupted then waits for the others where its process ends. Otherwise its
   * end ends them, because they would wait for it in vain.
   */
  stopsTogether(): void;
}

/** The communicator of a process by itself. */
export const SINGLE: Communicator = {
  rank: 0,
  size: 1,
  localRank: 0,
  localSize: 1,
  broadcast: async () => undefined,
  allGather: async (own, all) => all.set(own),
  gather: async (own, all) => all.set(own),
  allToAll: async (parts, received) => received.set(parts),
  barrier: async () => undefined,
  stopsTogether: () => undefined,
};

/** What each rank has, in the order of the ranks: as many numbers from each. */
export async function gatherFloats(communicator: Communicator, own: Float32Array): Promise<Float32Array> {
  const all = new Float32Array(own.length * communicator.size);
  await communicator.allGather(bytesOf(own), bytesOf(all));
  return all;
}

/** The bytes of each rank, of any length, in the order of the ranks; each in memory of its own. */
export async function gatherParts(communicator: Communicator, own: Uint8Array): Promise<Uint8Array<ArrayBuffer>[]> {
  return inPieces(communicator, own, true, (piece, all) => communicator.allGather(piece, all));
}

/** As `gatherParts`, on rank 0 alone; undefined on the others. */
export async function gatherOnFirst(
  communicator: Communicator,
  own: Uint8Array,
): Promise<Uint8Array<ArrayBuffer>[] | undefined> {
  const isFirst = communicator.rank === 0;
  const parts = await inPieces(communicator, own, isFirst, (piece, all) => communicator.gather(piece, all));
  return isFirst ? parts : undefined;
}

/** Gathers in pieces, so that what lies beside the parts is small. @param receives whether this rank gets the parts. */
async function inPieces(
  communicator: Communicator,
  own: Uint8Array,
  receives: boolean,
  gather: (piece: Uint8Array, all: Uint8Array) => Promise<void>,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const lengths = new Float64Array(communicator.size);
  await communicator.allGather(bytesOf(Float64Array.of(own.length)), bytesOf(lengths));
  const parts = receives ? Array.from(lengths, (length) => new Uint8Array(length)) : [];
  const longest = Math.max(...lengths);
  for (let at = 0; at < longest; at += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, longest - at);
    const piece = new Uint8Array(length);
    piece.set(own.subarray(at, at + length));
    const all = new Uint8Array(receives ? length * communicator.size : 0);
    await gather(piece, all);
    parts.forEach((part, rank) => {
      const wanted = Math.max(0, Math.min(length, part.length - at));
      part.set(all.subarray(rank * length, rank * length + wanted), Math.min(at, part.length));
    });
  }
  return parts;
}

const PIECE_BYTES = 2 ** 24;

/** The text of each rank, in the order of the ranks. */
export async function gatherTexts(communicator: Communicator, own: string): Promise<string[]> {
  const parts = await gatherParts(communicator, new TextEncoder().encode(own));
  return parts.map((part) => new TextDecoder().decode(part));
}

/** Rank 0's text on every rank. */
export async function broadcastText(communicator: Communicator, text: string): Promise<string> {
  const own = new TextEncoder().encode(text);
  const length = Int32Array.of(own.length);
  await communicator.broadcast(bytesOf(length));
  const bytes = communicator.rank === 0 ? own : new Uint8Array(length[0] ?? 0);
  await communicator.broadcast(bytes);
  return new TextDecoder().decode(bytes);
}
