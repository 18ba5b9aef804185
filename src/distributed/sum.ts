import { bytesOf } from '../platform/bytes.ts';
import type { Communicator } from './communicator.ts';

/** Values that are summed at once, 16 MiB: what lies beside the vector. */
const BUCKET_VALUES = 2 ** 22;

/**
 * Sums a vector over all ranks, in place and in the order of a fixed tree, so that the same addends give the same bits
 * whichever process they come from: neighbours are added, then neighbouring sums, and so on (see `addTree`).
 *
 * Each rank adds up its share of a bucket and hands the sums out, so that a rank sends about twice the vector, whatever
 * their number. MPI's own all-reduce would take an order that depends on the library, the size and the ranks.
 *
 * @param bucketValues values that are summed at once.
 */
export async function sumOverRanks(
  communicator: Communicator,
  vector: Float32Array,
  bucketValues: number = BUCKET_VALUES,
): Promise<void> {
  const { size } = communicator;
  if (size === 1) return;
  const share = Math.max(1, Math.floor(Math.min(bucketValues, vector.length) / size));
  const received = new Float32Array(share * size);
  const padded = new Float32Array(share * size);
  for (let at = 0; at < vector.length; at += share * size) {
    const values = vector.subarray(at, at + share * size);
    // The last bucket is filled up: the shares of all ranks are of one length.
    const bucket = values.length === padded.length ? values : padded;
    if (bucket === padded) {
      padded.fill(0);
      padded.set(values);
    }
    await communicator.allToAll(bytesOf(bucket), bytesOf(received));
    addTree(received, share, size);
    await communicator.allGather(bytesOf(received.subarray(0, share)), bytesOf(bucket));
    if (bucket === padded) values.set(padded.subarray(0, values.length));
  }
}

/**
 * Adds up `count` parts of `length` values into the first of them: each even one gets its neighbour, then each fourth the
 * sum two further on, and so on. `GradientSums` adds the batches of one process in the same order.
 */
export function addTree(parts: Float32Array, length: number, count: number): void {
  for (let stride = 1; stride < count; stride *= 2)
    for (let part = 0; part + stride < count; part += 2 * stride) {
      const [to, from] = [part * length, (part + stride) * length];
      for (let i = 0; i < length; i++) parts[to + i] = (parts[to + i] as number) + (parts[from + i] as number);
    }
}
