import { createReadStream } from 'node:fs';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import { DatasetError, errorText } from '../../../errors.ts';
import { describeFile, isGzip, isTar } from '../../../files/known-files.ts';
import { readHead } from '../../../files/regular-file.ts';
import { fileStates, folderLabel, type ImageSource, isImageName, MAX_ENCODED_BYTES } from './image-source.ts';

/** Long names and pax headers are buffered by the tar reader: no more than this between two members. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
const MAX_ENTRIES = 20_000_000;

export function isTarName(path: string): boolean {
  return /\.(tar|tar\.gz|tgz)$/i.test(path);
}

/** What a member of an archive is: `keep` it, leave it out (undefined), or list it as skipped with a reason. */
export type MemberRule = (header: Header) => { keep: true } | { reason: string } | undefined;

/**
 * Images in a tar archive, read as a stream: nothing is written to the disk. The folder an image is in is its class.
 *
 * @param label class of a member, from its path.
 */
export async function tarSource(
  path: string,
  label: (member: string) => string | undefined = folderLabel,
  name = path,
): Promise<ImageSource> {
  return {
    name,
    cacheKey: `tar ${await fileStates([path])}`,
    async *images() {
      for await (const member of tarMembers(path, imageMember)) {
        if ('reason' in member) yield member;
        else yield { source: member.source, label: label(member.source), encoded: member.bytes };
      }
    },
  };
}

function imageMember({ name, type, size = 0 }: Header): ReturnType<MemberRule> {
  if (!isImageName(name)) return undefined;
  if (type !== 'file' && type !== 'contiguous-file') return { reason: `a ${type}, not a file` };
  if (name.startsWith('/') || name.split('/').includes('..')) return { reason: 'its path leads out of the archive' };
  if (size > MAX_ENCODED_BYTES) return { reason: `${size} bytes are more than the ${MAX_ENCODED_BYTES} that are read` };
  return { keep: true };
}

/**
 * The members of a tar archive, gzipped or not, that `rule` keeps or gives a reason for.
 *
 * @throws {DatasetError} when the archive is damaged, or has headers of unreasonable size.
 */
export async function* tarMembers(
  path: string,
  rule: MemberRule,
): AsyncGenerator<{ source: string; bytes: Uint8Array } | { source: string; reason: string }> {
  const head = await readHead(path, DatasetError);
  const gzipped = isGzip(head);
  const budget = new HeaderBudget();
  const unpacked = extract();
  const file: Readable = createReadStream(path);
  const feeding = (gzipped ? pipeline(file, createGunzip(), budget, unpacked) : pipeline(file, budget, unpacked)).then(
    () => undefined,
    (error: Error) => {
      unpacked.destroy(error);
      return error;
    },
  );
  let entries = 0;
  try {
    for await (const entry of unpacked) {
      if (++entries > MAX_ENTRIES) throw new DatasetError(`${path} has more than ${MAX_ENTRIES} members`);
      const { name, size = 0 } = entry.header;
      budget.allow(size);
      const verdict = rule(entry.header);
      if (verdict && 'keep' in verdict) {
        const pieces: Uint8Array[] = [];
        for await (const piece of entry) pieces.push(piece as Uint8Array);
        yield { source: name, bytes: Buffer.concat(pieces) };
        continue;
      }
      if (verdict) yield { source: name, reason: verdict.reason };
      entry.resume();
    }
    const error = await feeding;
    if (error) throw error;
  } catch (cause) {
    if (cause instanceof DatasetError) throw cause;
    const found = describeFile(head);
    const other = found !== undefined && !gzipped && !isTar(head);
    throw new DatasetError(other ? `${path} is ${found}` : `${path} is not a whole tar archive: ${errorText(cause)}`, {
      cause,
    });
  } finally {
    unpacked.destroy();
    file.destroy();
    await feeding;
  }
}

/** Lets through what the last member announced plus a limited header: no header can fill the memory. */
class HeaderBudget extends Transform {
  #left = MAX_HEADER_BYTES;

  allow(bytes: number): void {
    this.#left = bytes + MAX_HEADER_BYTES;
  }

  override _transform(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null, data?: Buffer) => void): void {
    this.#left -= chunk.length;
    if (this.#left < 0) done(new Error(`a header is larger than ${MAX_HEADER_BYTES} bytes`));
    else done(null, chunk);
  }
}
