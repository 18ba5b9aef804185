import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { inspect } from 'node:util';
import { DistributedError } from '../../errors.ts';
import type { Communicator } from '../communicator.ts';
import { loadMpi, type Mpi } from './library.ts';

/** MPI is called by the main thread only. */
const THREAD_FUNNELED = 1;
const MAX_TEXT = 8192;
/** Counts are 32-bit integers, so long vectors go in pieces. */
const MAX_BYTES = 2 ** 30;
const STDERR = 2;
/** The status of a process that was interrupted. */
const INTERRUPTED = 130;

/**
 * Starts MPI. It ends with the process: a rank that fails ends all others, and one that is done waits for them.
 *
 * @throws {DistributedError} when MPI cannot be used, with what to install.
 */
export function startMpi(): Communicator {
  const mpi = loadMpi(process.env);
  checked(mpi, 'MPI_Init_thread', null, null, THREAD_FUNNELED, [0]);
  const { world, errorsReturn } = mpi.handles;
  checked(mpi, 'MPI_Comm_set_errhandler', world, errorsReturn);
  const communicator = new MpiCommunicator(mpi);
  // Node prints an uncaught error after the exit handlers, which MPI_Abort does not return from.
  process.once('uncaughtExceptionMonitor', (error) => writeSync(STDERR, `${inspect(error)}\n`));
  process.once('exit', (status) => {
    if (status === 0 || (status === INTERRUPTED && communicator.hasAgreed)) mpi.call('MPI_Finalize');
    else mpi.call('MPI_Abort', world, status);
  });
  return communicator;
}

/** The ranks of MPI_COMM_WORLD. A call blocks the thread until the others have come. */
class MpiCommunicator implements Communicator {
  readonly rank: number;
  readonly size: number;
  readonly localRank: number;
  readonly localSize: number;
  hasAgreed = false;

  constructor(private readonly mpi: Mpi) {
    const { world } = mpi.handles;
    const [rank, size] = [[0], [0]];
    checked(mpi, 'MPI_Comm_rank', world, rank);
    checked(mpi, 'MPI_Comm_size', world, size);
    this.rank = rank[0] ?? 0;
    this.size = size[0] ?? 1;
    const isLocal = this.ranksOfSameGpus();
    this.localRank = isLocal.slice(0, this.rank).filter(Boolean).length;
    this.localSize = isLocal.filter(Boolean).length;
  }

  async broadcast(bytes: Uint8Array): Promise<void> {
    const { byte, world } = this.mpi.handles;
    for (let at = 0; at < bytes.length; at += MAX_BYTES) {
      const part = bytes.subarray(at, at + MAX_BYTES);
      checked(this.mpi, 'MPI_Bcast', part, part.length, byte, 0, world);
    }
  }

  async allGather(own: Uint8Array, all: Uint8Array): Promise<void> {
    this.gatherAll(own, all);
  }

  async gather(own: Uint8Array, all: Uint8Array): Promise<void> {
    const { byte, world } = this.mpi.handles;
    checked(this.mpi, 'MPI_Gather', own, own.length, byte, all, own.length, byte, 0, world);
  }

  async allToAll(parts: Uint8Array, received: Uint8Array): Promise<void> {
    const { byte, world } = this.mpi.handles;
    const count = parts.length / this.size;
    checked(this.mpi, 'MPI_Alltoall', parts, count, byte, received, count, byte, world);
  }

  async barrier(): Promise<void> {
    checked(this.mpi, 'MPI_Barrier', this.mpi.handles.world);
  }

  stopsTogether(): void {
    this.hasAgreed = true;
  }

  private gatherAll(own: Uint8Array, all: Uint8Array): void {
    const { byte, world } = this.mpi.handles;
    checked(this.mpi, 'MPI_Allgather', own, own.length, byte, all, own.length, byte, world);
  }

  /** Which ranks are on this machine and see the same GPUs as this one. */
  private ranksOfSameGpus(): boolean[] {
    const { CUDA_VISIBLE_DEVICES = '' } = process.env;
    const own = createHash('sha256').update(`${hostname()}\0${CUDA_VISIBLE_DEVICES}`).digest();
    const all = new Uint8Array(own.length * this.size);
    this.gatherAll(own, all);
    return Array.from({ length: this.size }, (_, rank) =>
      own.equals(all.subarray(rank * own.length, (rank + 1) * own.length)),
    );
  }
}

/** @throws {DistributedError} with MPI's own words. */
function checked(mpi: Mpi, name: Parameters<Mpi['call']>[0], ...args: readonly unknown[]): void {
  const code = mpi.call(name, ...args);
  if (code === 0) return;
  const text = new Uint8Array(MAX_TEXT);
  const length = [0];
  mpi.call('MPI_Error_string', code, text, length);
  throw new DistributedError(
    `${name} failed: ${new TextDecoder().decode(text.subarray(0, length[0]))} (${mpi.version})`,
  );
}
