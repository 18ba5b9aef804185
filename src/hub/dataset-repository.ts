import path from 'node:path';
import { HubError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { readJsonFile } from '../files/json.ts';
import { isFile } from '../files/regular-file.ts';
import * as z from '../zod.ts';
import { type HubOptions, type ListedFile, Repository } from './repository.ts';

/** A data set of the Hub at a commit. */
export interface DatasetSnapshot {
  readonly commit: string;
  /** The paths of its README.md and its parquet files. */
  readonly files: readonly string[];
  /** Downloads one of them unless it is cached. @returns its path on the disk. @throws {HubError} when that fails. */
  fetch(file: string): Promise<string>;
}

/** Where the Hub keeps its own conversion of a data set: `<configuration>/<split>/0000.parquet`. */
export const CONVERTED = 'refs/convert/parquet';

const listingSchema: z.ZodMiniType<ListedFile[]> = z.array(
  z.strictObject({
    path: z.string(),
    size: z.int().check(z.gte(0)),
    digest: z.strictObject({ kind: z.enum(['sha256', 'git-sha1']), hex: z.string() }),
  }),
);

/**
 * Opens a data set of the Hugging Face Hub. Only its list of files is asked for, and kept for use without a network.
 *
 * @param name `owner/name`.
 * @throws {HubError} when the Hub refuses, or cannot be reached and no list is cached.
 * @throws {InvalidArgumentError} when name, revision or token is malformed.
 */
export async function openDataset(name: string, options: HubOptions = {}): Promise<DatasetSnapshot> {
  const repository = new Repository('dataset', name, options);
  const { revision, cache } = repository;
  const listingOf = (commit: string) => path.join(cache, 'listings', `${commit}.json`);
  const snapshot = (commit: string, listing: readonly ListedFile[]): DatasetSnapshot => ({
    commit,
    files: listing.map((file) => file.path),
    fetch: async (wanted) => {
      const file = listing.find((each) => each.path === wanted);
      if (!file) throw new HubError(`${name} has no file ${wanted} at ${commit}`);
      return repository.download(commit, file);
    },
  });
  return repository.throughCache({
    what: `the data set ${name} at ${revision}`,
    ref: repository.ref,
    find: async (commit) =>
      (await isFile(listingOf(commit)))
        ? snapshot(commit, await readJsonFile(listingOf(commit), listingSchema))
        : undefined,
    get: async (commit) => {
      const files = await repository.files(commit);
      const listing = files.filter((file) => file.path === 'README.md' || file.path.endsWith('.parquet'));
      await writeFileAtomic(listingOf(commit), JSON.stringify(listing));
      return snapshot(commit, listing);
    },
  });
}
