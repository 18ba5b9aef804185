import { NotInBrowserError } from '../../errors.ts';

/* A bundle has no files beside it that could be opened by path. */

export function packageFile(file: string): URL {
  throw new NotInBrowserError(`${file} is a file of the package, which a browser does not have`);
}

export const packageScript = packageFile;

export function resolveDependency(specifier: string): string {
  throw new NotInBrowserError(`${specifier} is a package on a disk, which a browser does not have`);
}
