import { errorText, NotInBrowserError } from '../../errors.ts';

export const DIGITS_FILE = 'assets/digits/digits.csv.gz';

// A bundler that sees such a URL copies the file, and writes its place here. scripts/build-web.ts relies on the depth.
const address = new URL('../../../assets/digits/digits.csv.gz', import.meta.url);

/** The file of the digits, from the server of the page. @throws {NotInBrowserError} when it is not there. */
export async function digitsFile(): Promise<Uint8Array> {
  const failure = (reason: string) =>
    new NotInBrowserError(
      `the digits cannot be fetched from ${address} (${reason}): copy ${DIGITS_FILE} of the package iso-diffusion there`,
    );
  const response = await fetch(address).catch((cause: unknown) => {
    throw failure(errorText(cause));
  });
  if (!response.ok) throw failure(`HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
