import { posix } from 'node:path';
import { DatasetError, HubError, InvalidArgumentError } from '../../../errors.ts';
import { readWholeFile } from '../../../files/regular-file.ts';
import { type DatasetCard, type DatasetConfig, matchesPattern, parseDatasetCard } from '../../../hub/dataset-card.ts';
import { CONVERTED, type DatasetSnapshot, openDataset } from '../../../hub/dataset-repository.ts';
import type { HubOptions } from '../../../hub/repository.ts';
import type { ParquetFiles } from '../../parquet/table.ts';
import type { ImageSource, SourceChoice } from './image-source.ts';
import { parquetSource } from './parquet.ts';
import { canonical, chosenSplit, splitsByFile, splitsByFolder } from './splits.ts';

/** How a data set of the Hub is found and downloaded. */
export interface HubChoice
  extends Pick<HubOptions, 'revision' | 'token' | 'local_files_only' | 'progress_callback' | 'cache_dir'> {
  /** The configuration, where there are several. */
  readonly config?: string | undefined;
}

type Choice = Omit<SourceChoice, 'labelColumn'> & { readonly hub: HubChoice };

/** A parquet file of a configuration. */
interface ConfigFile {
  readonly path: string;
  readonly config: string;
  readonly split: string | undefined;
}

/** `data/train-00000-of-00002-<digest>.parquet`, as `push_to_hub` writes it: nothing else is read beside such files. */
const PUSHED = /^data\/[\w.]+-\d{5}-of-\d{5}[^/]*\.parquet$/;
const MAX_CARD_BYTES = 4 * 1024 * 1024;

/** The images of a data set of the Hugging Face Hub. @throws as {@link hubFiles}. */
export async function hubSource(
  name: string,
  choice: SourceChoice & { readonly hub: HubChoice },
): Promise<ImageSource> {
  return { ...(await parquetSource(await hubFiles(name, choice), choice)), hubId: name };
}

/**
 * The files of a data set of the Hugging Face Hub, found as its `datasets` finds them: the repository's own parquet files,
 * as its card or their names divide them, else those into which the Hub has converted it. One file is downloaded at a time,
 * when the one before it has been read.
 *
 * @param name `owner/name`.
 * @throws {HubError} when the Hub refuses or cannot be reached and nothing is cached.
 * @throws {InvalidArgumentError} when a configuration or split has to be chosen, or is not there; lists those there are.
 * @throws {DatasetError} when there are no parquet files, or the card is damaged.
 */
export async function hubFiles(name: string, choice: Choice): Promise<ParquetFiles> {
  const { config: _, ...options } = choice.hub;
  const own = await openDataset(name, options).catch((error: unknown) => refuseMisspelt(name, error));
  const card = await cardOf(name, own);
  const ownFiles = filesOfCard(name, card, parquetOf(own), choice);
  const snapshot = ownFiles.length > 0 ? own : await convertedSnapshot(name, options);
  const files = ownFiles.length > 0 ? ownFiles : filesOfConversion(name, card, parquetOf(snapshot), choice);
  const paths = chosenSplit(name, files, ({ split }) => split, choice)
    .map(({ path }) => path)
    .sort();
  const partial = snapshot === own ? undefined : paths.find((path) => path.includes('/partial-'));
  if (partial !== undefined)
    choice.warn(`${name}: the Hub has converted only a part of it, which is read: ${posix.dirname(partial)}`);
  const [{ config = '' } = {}] = files;
  return {
    name,
    state: JSON.stringify(['hub', name, snapshot.commit, paths]),
    files: paths.map((path) => () => snapshot.fetch(path)),
    classNames: (column) => card.classNames(config, column),
  };
}

/** A misspelt path may look like a data set of the Hub. */
function refuseMisspelt(name: string, cause: unknown): never {
  if (!(cause instanceof HubError)) throw cause;
  const { unreachable, status } = cause;
  throw new HubError(`there is no file or folder '${name}', and as a data set of the Hub: ${cause.message}`, {
    cause,
    unreachable,
    status,
  });
}

const parquetOf = ({ files }: DatasetSnapshot) => files.filter((path) => path.endsWith('.parquet'));

async function cardOf(name: string, snapshot: DatasetSnapshot): Promise<DatasetCard> {
  if (!snapshot.files.includes('README.md')) return parseDatasetCard('', name);
  const text = await readWholeFile(await snapshot.fetch('README.md'), MAX_CARD_BYTES, DatasetError);
  return parseDatasetCard(Buffer.from(text).toString(), `${name}, README.md`);
}

const plainConfig = (name: string): DatasetConfig => ({ name, isDefault: false, folder: '', splits: undefined });

/** @throws {InvalidArgumentError} when there is no such configuration, or one of several has to be named. */
function chosenConfig(
  name: string,
  configs: readonly [DatasetConfig, ...DatasetConfig[]],
  { hub: { config: asked } }: Choice,
): DatasetConfig {
  const [first, ...others] = configs;
  const usual = others.length === 0 ? first : configs.find((config) => config.isDefault);
  const chosen =
    asked === undefined
      ? (usual ?? configs.find((config) => config.name === 'default'))
      : configs.find((config) => config.name === asked);
  if (chosen) return chosen;
  const list = configs.map((config) => `'${config.name}'`).join(', ');
  throw new InvalidArgumentError(
    asked === undefined
      ? `${name} has the configurations ${list}: give one of them as dataset_config_name`
      : `${name} has no configuration '${asked}': there ${others.length === 0 ? 'is' : 'are'} ${list}`,
  );
}

/** The repository's own files of the chosen configuration; none where its files are of another kind. */
function filesOfCard(name: string, card: DatasetCard, paths: readonly string[], choice: Choice): ConfigFile[] {
  if (paths.length === 0) return [];
  const [first, ...others] = card.configs;
  if (first === undefined) return filesByName(name, paths, choice);
  const { name: config, folder, splits } = chosenConfig(name, [first, ...others], choice);
  if (splits === undefined) {
    const inside = folder === '' ? paths : paths.filter((path) => path.startsWith(`${folder}/`));
    const splitOf = splitsByFile(inside, choice);
    return inside.map((path) => ({ path, config, split: splitOf(path) }));
  }
  return [...splits].flatMap(([split, patterns]) =>
    paths
      .filter((path) => patterns.some((pattern) => matchesPattern(posix.join(folder, pattern), path)))
      .map((path) => ({ path, config, split: canonical(split) })),
  );
}

/** Without a card, each folder that is not a split is a configuration. A single one is all there is, whatever its name. */
function filesByName(name: string, paths: readonly string[], choice: Choice): ConfigFile[] {
  const pushed = paths.filter((path) => PUSHED.test(path));
  const all = pushed.length > 0 ? pushed : paths;
  const splitOf = splitsByFile(all, choice);
  const folders = splitsByFolder(all, choice);
  const files = all.map((path) => ({
    path,
    config: posix.dirname(folders.withoutSplits(path)),
    split: splitOf(path),
  }));
  const isSingle = files.every(({ config }) => config === files[0]?.config);
  return ofChosenConfig(name, isSingle ? files.map((file) => ({ ...file, config: 'default' })) : files, choice);
}

/** `<configuration>/<split>/0000.parquet`; a split of which the Hub has converted a part begins with 'partial-'. */
function filesOfConversion(name: string, card: DatasetCard, paths: readonly string[], choice: Choice): ConfigFile[] {
  const files = paths.map((path) => {
    const [config = '', split = ''] = path.split('/');
    return { path, config, split: canonical(split.replace(/^partial-/, '')) };
  });
  return ofChosenConfig(name, files, choice, card.configs);
}

function ofChosenConfig(
  name: string,
  files: readonly ConfigFile[],
  choice: Choice,
  described: readonly DatasetConfig[] = [],
): ConfigFile[] {
  const configs = [...new Set(files.map(({ config }) => config))].map(
    (each) => described.find((config) => config.name === each) ?? plainConfig(each),
  );
  const [first, ...others] = configs;
  if (first === undefined) return [];
  const chosen = chosenConfig(name, [first, ...others], choice);
  return files.filter((file) => file.config === chosen.name);
}

/** The Hub's conversion. @throws {DatasetError} when there is none. */
async function convertedSnapshot(name: string, options: HubOptions): Promise<DatasetSnapshot> {
  const { revision = 'main' } = options;
  const advice = 'download its files, and give their folder';
  if (revision !== 'main')
    throw new DatasetError(`${name} has no parquet files of this configuration at revision '${revision}': ${advice}`);
  try {
    const converted = await openDataset(name, { ...options, revision: CONVERTED });
    if (parquetOf(converted).length > 0) return converted;
  } catch (error) {
    if (!(error instanceof HubError && error.status === 404)) throw error;
  }
  throw new DatasetError(`${name} has no parquet files, and the Hub has not converted it: ${advice}`);
}
