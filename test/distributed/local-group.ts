import type { Communicator } from '../../src/distributed/communicator.ts';

/** Ranks in one process, which wait for each other: what they say is checked against what MPI would do with it. */
export function localGroup(size: number): Communicator[] {
  const meetings: { given: Map<number, Uint8Array>; done: Promise<void>; finish: () => void }[] = [];
  const calls = Array.from({ length: size }, () => 0);
  /** What all ranks gave to their n-th call. */
  const meet = async (rank: number, own: Uint8Array): Promise<Uint8Array[]> => {
    const call = calls[rank] ?? 0;
    calls[rank] = call + 1;
    let meeting = meetings[call];
    if (!meeting) {
      let finish = () => {};
      const done = new Promise<void>((resolve) => {
        finish = resolve;
      });
      meeting = { given: new Map(), done, finish };
      meetings[call] = meeting;
    }
    meeting.given.set(rank, own.slice());
    if (meeting.given.size === size) meeting.finish();
    await meeting.done;
    const { given } = meeting;
    return Array.from({ length: size }, (_, other) => given.get(other) ?? new Uint8Array());
  };
  return Array.from({ length: size }, (_, rank) => ({
    rank,
    size,
    localRank: rank,
    localSize: size,
    broadcast: async (bytes) => bytes.set((await meet(rank, bytes))[0] ?? bytes),
    allGather: async (own, all) => {
      (await meet(rank, own)).forEach((part, other) => {
        all.set(part, other * own.length);
      });
    },
    gather: async (own, all) => {
      const parts = await meet(rank, own);
      if (rank === 0)
        parts.forEach((part, other) => {
          all.set(part, other * own.length);
        });
    },
    allToAll: async (parts, received) => {
      const length = parts.length / size;
      (await meet(rank, parts)).forEach((other, from) => {
        received.set(other.subarray(rank * length, (rank + 1) * length), from * length);
      });
    },
    barrier: async () => void (await meet(rank, new Uint8Array())),
    stopsTogether: () => undefined,
  }));
}
