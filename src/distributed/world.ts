import { isMainThread } from 'node:worker_threads';
import { errorText } from '../errors.ts';
import { type Communicator, SINGLE } from './communicator.ts';
import { loadMpi } from './mpi/library.ts';
import { startMpi } from './mpi/mpi-communicator.ts';

let started: Communicator | undefined;

/**
 * The ranks that mpirun or srun started together with this process; a process that was started alone is by itself. MPI
 * starts with the first call, and ends with the process.
 *
 * @throws {DistributedError} when MPI cannot be used, with what to install.
 */
export function world(): Communicator {
  started ??= wasLaunched(process.env) ? startMpi() : SINGLE;
  return started;
}

/** The variables by which Open MPI, PMIx (srun) and MPICH (mpiexec, srun) tell a process its rank. */
const RANK_VARIABLES = ['OMPI_COMM_WORLD_RANK', 'PMIX_RANK', 'PMI_RANK'];

/** Whether MPI started this process. Its threads, and the processes that it forks, inherit the variables, but are no ranks. */
function wasLaunched(environment: NodeJS.ProcessEnv): boolean {
  return isMainThread && !process.channel && RANK_VARIABLES.some((name) => environment[name] !== undefined);
}

/** Whether processes can work together, and which one this is. */
export interface MpiReport {
  /** Name and version of the library, and its file; null where it cannot be loaded. */
  readonly library: string | null;
  /** What to install; empty where there is a library. */
  readonly advice: string;
  readonly rank: number;
  readonly size: number;
}

/** Loads MPI if it can. */
export function mpiReport(): MpiReport {
  try {
    const { version, file } = loadMpi(process.env);
    const { rank, size } = world();
    return { library: `${version} (${file})`, advice: '', rank, size };
  } catch (error) {
    return { library: null, advice: errorText(error), rank: 0, size: 1 };
  }
}
