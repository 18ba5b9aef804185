import { crc32, gunzipSync, gzipSync } from 'node:zlib';
import { type UnzipFileInfo, unzipSync, zipSync } from 'fflate';
import { byteMutations } from './bytes.ts';
import { MAX_BYTES, type Mutation, pick } from './mutation.ts';

/* Changes of what lies inside a container, and checksums made right again. */

/** A change of what a gzip file holds. */
export const insideGzip =
  (mutations: readonly Mutation[] = byteMutations): Mutation =>
  (bytes, stream, file) => {
    const content = attempt(() => gunzipSync(bytes, { maxOutputLength: MAX_BYTES }));
    if (!content?.length) return undefined;
    const changed = pick(stream, mutations)(content, stream, file);
    return changed && changed.length <= MAX_BYTES ? gzipSync(changed, { level: 1 }) : undefined;
  };

/** A change of one file in a zip archive, or of its name. */
export const insideZip =
  (mutations: readonly Mutation[] = byteMutations): Mutation =>
  (bytes, stream) => {
    let entries = 0;
    // A damaged directory can claim 2^32 entries, or one of 4 GB.
    const filter = ({ originalSize }: UnzipFileInfo) => {
      if (++entries > 100) throw new Error('too many entries');
      return originalSize <= MAX_BYTES;
    };
    const files: Record<string, Uint8Array> | undefined = attempt(() => unzipSync(bytes, { filter }));
    const names = Object.keys(files ?? {});
    if (!files || names.length === 0) return undefined;
    const name = pick(stream, names);
    const content = files[name] ?? new Uint8Array();
    const other = files[pick(stream, names)] ?? content;
    if (stream.integer(8) === 0) {
      files[pick(stream, [...names, '../out.npy', `x/${name}`, 'a'.repeat(300)])] = content;
      if (stream.integer(2) === 0) delete files[name];
    } else {
      const changed = content.length > 0 ? pick(stream, mutations)(content, stream, { name, other }) : other;
      if (changed === undefined) return undefined;
      files[name] = changed;
    }
    return zipSync(files, { level: pick(stream, [0, 6] as const) });
  };

/** Makes the checksums of a tar file's headers right. */
export function sealTar(bytes: Uint8Array): Uint8Array {
  const out = Buffer.from(bytes);
  for (let begin = 0; begin + 512 <= out.length; begin += 512) {
    const header = out.subarray(begin, begin + 512);
    if (header.toString('latin1', 257, 262) !== 'ustar') continue;
    header.fill(' ', 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  }
  return out;
}

/** Makes the checksums of a PNG's chunks right. */
export function sealPng(bytes: Uint8Array): Uint8Array {
  const out = Buffer.from(bytes);
  for (let begin = 8; begin + 12 <= out.length; ) {
    const end = begin + 8 + out.readUInt32BE(begin);
    if (end + 4 > out.length) break;
    out.writeUInt32BE(crc32(out.subarray(begin + 4, end)), end);
    begin = end + 4;
  }
  return out;
}

function attempt<T>(unpack: () => T): T | undefined {
  try {
    return unpack();
  } catch {
    return undefined;
  }
}
