import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';
import { DistributedError, errorText } from '../../errors.ts';

/** A handle of MPI: a pointer in Open MPI, a number in MPICH. */
type Handle = unknown;

/** What this package calls of MPI. All return an error code; `void *` takes a typed array. */
export interface Mpi {
  /** What `MPI_Get_library_version` says, its first line. */
  readonly version: string;
  readonly file: string;
  readonly handles: { readonly world: Handle; readonly byte: Handle; readonly errorsReturn: Handle };
  call(name: keyof typeof SIGNATURES, ...args: readonly unknown[]): number;
}

/** `H` stands for a handle: of a communicator, a type or an error handler. */
const SIGNATURES = {
  MPI_Init_thread: 'int MPI_Init_thread(void *argc, void *argv, int required, _Out_ int *provided)',
  MPI_Comm_rank: 'int MPI_Comm_rank(H comm, _Out_ int *rank)',
  MPI_Comm_size: 'int MPI_Comm_size(H comm, _Out_ int *size)',
  MPI_Comm_set_errhandler: 'int MPI_Comm_set_errhandler(H comm, H handler)',
  MPI_Error_string: 'int MPI_Error_string(int code, void *text, _Out_ int *length)',
  MPI_Get_library_version: 'int MPI_Get_library_version(void *text, _Out_ int *length)',
  MPI_Bcast: 'int MPI_Bcast(void *buffer, int count, H type, int root, H comm)',
  MPI_Allgather: 'int MPI_Allgather(void *own, int n, H type, void *all, int m, H type2, H comm)',
  MPI_Gather: 'int MPI_Gather(void *own, int n, H type, void *all, int m, H type2, int root, H comm)',
  MPI_Alltoall: 'int MPI_Alltoall(void *parts, int n, H type, void *received, int m, H type2, H comm)',
  MPI_Barrier: 'int MPI_Barrier(H comm)',
  MPI_Abort: 'int MPI_Abort(H comm, int code)',
  MPI_Finalize: 'int MPI_Finalize()',
} as const;

/** The numbers that the ABI of MPICH has for the handles; Intel MPI and MVAPICH have the same ones. */
const MPICH_HANDLES = { world: 0x44000000, byte: 0x4c00010d, errorsReturn: 0x54000001 };

const OPEN_MPI = ['libmpi.so.40', 'libmpi.so', 'libmpi.dylib', '/opt/homebrew/lib/libmpi.dylib'];
const MPICH = ['libmpich.so.12', 'libmpi.so.12', 'libmpich.so', 'libmpich.dylib'];
const MAX_TEXT = 8192;

/**
 * Loads libmpi: that of Open MPI where its mpirun started the process, else that of MPICH first. `ISO_DIFFUSION_MPI` names
 * another file.
 *
 * @throws {DistributedError} when koffi or libmpi is missing, with the command that installs it.
 */
export function loadMpi(environment: Readonly<Record<string, string | undefined>>): Mpi {
  const koffi = loadKoffi();
  const { ISO_DIFFUSION_MPI: own } = environment;
  const isOpenMpi = environment.OMPI_COMM_WORLD_RANK !== undefined || environment.PMIX_RANK !== undefined;
  const files = own ? [own] : isOpenMpi ? [...OPEN_MPI, ...MPICH] : [...MPICH, ...OPEN_MPI];
  const failures: string[] = [];
  for (const file of files) {
    try {
      // Open MPI loads plugins that look for its symbols.
      return bind(koffi.load(file, { global: true }), file);
    } catch (error) {
      failures.push(`${file}: ${errorText(error)}`);
    }
  }
  throw new DistributedError(
    `the library of MPI, which several processes need to train together, cannot be loaded. On Debian or Ubuntu: apt-get install openmpi-bin libopenmpi-dev (where mpirun is MPICH's: mpich); elsewhere name the file in ISO_DIFFUSION_MPI. Tried ${failures.join('; ')}`,
  );
}

/** @throws {DistributedError} where it is not installed, with the command that installs it. */
export function loadKoffi(): typeof Koffi {
  try {
    return createRequire(import.meta.url)('koffi');
  } catch (cause) {
    throw new DistributedError('koffi, through which this package calls MPI, is not installed: npm install koffi', {
      cause,
    });
  }
}

function bind(library: Koffi.LibraryHandle, file: string): Mpi {
  const isOpenMpi = hasSymbol(library, 'ompi_mpi_comm_world');
  const handles = isOpenMpi
    ? {
        world: library.symbol('ompi_mpi_comm_world'),
        byte: library.symbol('ompi_mpi_byte'),
        errorsReturn: library.symbol('ompi_mpi_errors_return'),
      }
    : MPICH_HANDLES;
  const functions = new Map(
    Object.entries(SIGNATURES).map(([name, signature]) => [
      name,
      library.func(signature.replaceAll(/\bH /g, isOpenMpi ? 'void *' : 'int ')),
    ]),
  );
  const call: Mpi['call'] = (name, ...args) => Number(functions.get(name)?.(...args));
  const text = new Uint8Array(MAX_TEXT);
  const length = [0];
  call('MPI_Get_library_version', text, length);
  const version =
    new TextDecoder().decode(text.subarray(0, length[0])).split(/[\n,]/)[0]?.replaceAll(/\s+/g, ' ') ?? '';
  return { version, file, handles, call };
}

function hasSymbol(library: Koffi.LibraryHandle, name: string): boolean {
  try {
    library.symbol(name);
    return true;
  } catch {
    return false;
  }
}
