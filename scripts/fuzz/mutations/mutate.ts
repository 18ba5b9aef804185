import { createHash } from 'node:crypto';
import { RandomStream } from '../../../src/random/random-stream.ts';
import type { Files, FuzzedReader } from '../reader.ts';
import { byteMutations } from './bytes.ts';
import { MAX_BYTES, pick } from './mutation.ts';

/** The stream of one case: it depends on nothing else. */
function streamOf(seed: number, reader: string, index: number): RandomStream {
  return new RandomStream(seed, createHash('sha256').update(reader).digest().readUInt32LE(0), index);
}

/** The input of case `index`: an example with one to four changes. */
export function mutatedCase(
  reader: FuzzedReader,
  examples: readonly Files[],
  { seed, name, index }: { seed: number; name: string; index: number },
): Files {
  const stream = streamOf(seed, name, index);
  const files: Files = new Map(pick(stream, examples));
  const changes = pick(stream, [1, 1, 1, 2, 2, 3, 4]);
  for (let done = 0, tries = 0; done < changes && tries < 50; tries++) {
    const mutations = reader.mutations && stream.integer(2) === 0 ? reader.mutations : byteMutations;
    const file = pick(stream, [...files.keys()]);
    const bytes = files.get(file) ?? new Uint8Array();
    if (bytes.length === 0) continue;
    if (files.size > 1 && stream.integer(40) === 0) {
      files.delete(file);
      done++;
      continue;
    }
    const other = otherFile(stream, examples, file);
    const changed = pick(stream, mutations)(bytes, stream, { name: file, other });
    if (changed === undefined || changed.length > MAX_BYTES) continue;
    files.set(file, changed);
    done++;
  }
  if (stream.integer(3) > 0) reader.seal?.(files);
  return files;
}

/** The same file of another example, else any file of one. */
function otherFile(stream: RandomStream, examples: readonly Files[], name: string): Uint8Array {
  const example = pick(stream, examples);
  return example.get(name) ?? example.get(pick(stream, [...example.keys()])) ?? new Uint8Array();
}
