import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type { Header } from 'tar-stream';
import { DatasetError, errorText } from '../../../errors.ts';
import { describeFile, isGzip, isTar } from '../../../files/known-files.ts';
import { readHead } from '../../../files/regular-file.ts';
import { isImageName, notAnImageName } from '../formats/image-formats.ts';
import {
  folderLabel,
  type ImageSource,
  isHiddenPath,
  labelColumnOf,
  MAX_ENCODED_BYTES,
  plainPath,
  type SourceChoice,
} from './image-source.ts';
import { fileStates } from './source-files.ts';
import { anyOf, chosenSplit, splitsByFolder } from './splits.ts';
import { isSidecar, sampleKey, withSidecars } from './webdataset.ts';

/** Long names and pax headers are buffered by the tar reader: no more than this between two members. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
const MAX_ENTRIES = 20_000_000;
const MAX_SIDECAR_BYTES = 1024 * 1024;

export function isTarName(path: string): boolean {
  return /\.(tar|tar\.gz|tgz)$/i.test(path);
}

/** What a member of an archive is: `keep` it, leave it out (undefined), or list it as skipped with a reason. */
export type MemberRule = (header: Header) => { keep: true } | { reason: string } | undefined;

/**
 * Images of an archive whose member names tell the classes, read as a stream: nothing is written to the disk.
 *
 * @param label class of a member, from its path.
 */
export async function archiveSource(
  name: string,
  path: string,
  label: (member: string) => string | undefined,
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

/**
 * Images of tar archives, read as streams. A `.cls` or `.json` file with the name of an image holds its class, as in
 * webdataset's shards; else the folder that the image is in is its class. Folders may be splits.
 *
 * The archives are read twice: what a folder or a file means depends on what else there is.
 */
export async function tarSource(name: string, paths: readonly string[], choice: SourceChoice): Promise<ImageSource> {
  let opened: Promise<TarLayout> | undefined;
  return {
    name,
    cacheKey: `tar ${JSON.stringify([choice.split, choice.labelColumn])} ${await fileStates(paths)}`,
    async *images() {
      opened ??= tarLayout(name, paths, choice);
      const { keep, labelOf, hasSidecars } = await opened;
      for (const path of paths) {
        const where = (source: string) => (paths.length > 1 ? `${basename(path)}/${source}` : source);
        const members = tarMembers(path, keep);
        for await (const member of hasSidecars ? withSidecars(members, choice, path) : members) {
          const source = where(member.source);
          if ('reason' in member) yield { source, reason: member.reason };
          else yield { source, label: labelOf(member), encoded: member.bytes };
        }
      }
    },
  };
}

interface TarLayout {
  /** Which members are read. */
  readonly keep: MemberRule;
  /** Whether files beside images tell about them. */
  readonly hasSidecars: boolean;
  labelOf(image: {
    readonly source: string;
    readonly label?: number | string | undefined;
  }): number | string | undefined;
}

/** What the names in archives mean. @throws as {@link chosenSplit} and {@link tarMembers}. */
async function tarLayout(name: string, paths: readonly string[], choice: SourceChoice): Promise<TarLayout> {
  const members: string[] = [];
  const list: MemberRule = ({ name: member, type }) => {
    if (type !== 'directory' && !isHiddenPath(member)) members.push(plainPath(member));
    return undefined;
  };
  for (const path of paths) for await (const _ of tarMembers(path, list));
  const images = members.filter(isImageName);
  const folders = splitsByFolder(images, choice);
  const chosen = new Set(chosenSplit(name, images, folders.splitOf, choice));
  const isOfSplits = anyOf([...chosen].map(folders.splitOf));
  const keys = new Set([...chosen].map(sampleKey));
  const sidecars = members.filter((member) => isSidecar(member) && keys.has(sampleKey(member)));
  if (sidecars.length === 0) labelColumnOf([], choice, name);
  // Folders are classes only where no file says the class.
  const isByFolder = choice.labelColumn === undefined && !sidecars.some((member) => /\.cls$/i.test(member));
  return {
    hasSidecars: sidecars.length > 0,
    keep: (header) => {
      const member = plainPath(header.name);
      if (isSidecar(member) && keys.has(sampleKey(member))) return sidecarMember(header);
      const isChosen = isImageName(member) ? chosen.has(member) : isOfSplits(folders.splitOf(member));
      return isChosen ? imageMember(header) : undefined;
    },
    labelOf: ({ source, label }) =>
      label ?? (isByFolder ? folderLabel(folders.withoutSplits(plainPath(source))) : undefined),
  };
}

function imageMember({ name, type, size = 0 }: Header): ReturnType<MemberRule> {
  if (type === 'directory' || isHiddenPath(name)) return undefined;
  if (!isImageName(name)) return { reason: notAnImageName(name) };
  if (type !== 'file' && type !== 'contiguous-file') return { reason: `a ${type}, not a file` };
  if (name.startsWith('/') || name.split('/').includes('..')) return { reason: 'its path leads out of the archive' };
  if (size > MAX_ENCODED_BYTES) return { reason: `${size} bytes are more than the ${MAX_ENCODED_BYTES} that are read` };
  return { keep: true };
}

function sidecarMember({ type, size = 0 }: Header): ReturnType<MemberRule> {
  if (type !== 'file' && type !== 'contiguous-file') return { reason: `a ${type}, not a file` };
  if (size > MAX_SIDECAR_BYTES) return { reason: `${size} bytes are more than the ${MAX_SIDECAR_BYTES} that are read` };
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
  const { extract } = await import('tar-stream');
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
      // tar-stream gives null for a size that it cannot read, and then waits for its end without end.
      if (!Number.isSafeInteger(size)) throw new DatasetError(`${path} is damaged: a member's size cannot be read`);
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
