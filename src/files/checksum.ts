import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { FileFormatError } from '../errors.ts';

/** SHA-256 in hex of the contents of files, one after another. @throws {FileFormatError} when one cannot be read. */
export async function fileChecksum(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    try {
      for await (const chunk of createReadStream(path)) hash.update(chunk);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new FileFormatError(`the model ${path} cannot be read: ${reason}`, { cause });
    }
  }
  return hash.digest('hex');
}
