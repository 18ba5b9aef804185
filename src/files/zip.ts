import type { Zippable } from 'fflate';
import { mkdir, readdir, readFile, stat } from '#platform/fs';
import { dirname, join } from '#platform/path';
import { errorText, FileFormatError } from '../errors.ts';
import { writeFileAtomic } from './atomic.ts';

/** All that a zip file unpacks to must fit the memory of a tab. */
const MAX_BYTES = 2 * 1024 ** 3;
const MAX_FILES = 10_000;

/** Numbers of floating point do not become smaller. */
const STORED = /\.(safetensors|onnx|onnx_data|png)$/;

/**
 * A folder as the bytes of a zip file, for instance a saved pipeline to download from a page. Hidden files are left out.
 *
 * @param folder its path.
 * @throws the operating system's error when the folder cannot be read.
 * @example
 * await trainer.savePipeline('roll');
 * const file = new Blob([await zipFolder('roll')], { type: 'application/zip' });
 */
export async function zipFolder(folder: string): Promise<Uint8Array<ArrayBuffer>> {
  const { zipSync } = await import('fflate');
  const files: Zippable = {};
  const add = async (below: string) => {
    for (const name of (await readdir(join(folder, below))).sort()) {
      if (name.startsWith('.')) continue;
      const path = below === '' ? name : `${below}/${name}`;
      const full = join(folder, path);
      if ((await stat(full)).isDirectory()) await add(path);
      else files[path] = [new Uint8Array(await readFile(full)), { level: STORED.test(name) ? 0 : 6, mtime: MTIME }];
    }
  };
  await add('');
  return new Uint8Array(zipSync(files));
}

/** The first day that zip files know, so that equal folders give equal bytes. */
const MTIME = new Date(1980, 0, 1);

/**
 * Unpacks a zip file into a folder. The file is not trusted: paths that leave the folder are refused, and so is more than
 * a tab can hold.
 *
 * @throws {FileFormatError} when it is not a zip file, damaged or refused.
 */
export async function unzipInto(folder: string, zip: Uint8Array): Promise<void> {
  const { unzipSync } = await import('fflate');
  let bytes = 0;
  let count = 0;
  let files: Record<string, Uint8Array>;
  try {
    files = unzipSync(zip, {
      filter: ({ name, originalSize }) => {
        if (name.endsWith('/')) return false;
        refuseOutside(name);
        bytes += originalSize;
        count++;
        if (bytes > MAX_BYTES || count > MAX_FILES)
          throw new FileFormatError(
            `the zip file holds more than the ${MAX_FILES} files or ${MAX_BYTES} bytes that are unpacked`,
          );
        return true;
      },
    });
  } catch (cause) {
    if (cause instanceof FileFormatError) throw cause;
    throw new FileFormatError(`it is not a zip file that can be read: ${errorText(cause)}`, { cause });
  }
  for (const [path, content] of Object.entries(files)) {
    const target = join(folder, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFileAtomic(target, content);
  }
}

function refuseOutside(path: string): void {
  const parts = path.split('/');
  if (/[\\:\0]/.test(path) || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new FileFormatError(
      `the zip file has the path ${JSON.stringify(path.slice(0, 200))}, which may leave its folder`,
    );
}
