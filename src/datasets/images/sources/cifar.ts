import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { DatasetError, errorText } from '../../../errors.ts';
import { kindNote } from '../../../files/known-files.ts';
import { CIFAR_NAMES, type CifarLabel } from './cifar-names.ts';
import {
  type ImageSource,
  labelColumnOf,
  type PlainImage,
  type SourceChoice,
  type SourceImage,
} from './image-source.ts';
import { type Pickled, PickledArray, parsePickle } from './pickle.ts';
import { fileStates, readUnpacked } from './source-files.ts';
import { chosenSplit } from './splits.ts';
import { tarMembers } from './tar.ts';

/** A record is one or two label bytes, then 32x32 bytes of red, of green and of blue (https://www.cs.toronto.edu/~kriz/cifar.html). */
const SIDE = 32;
const PLANE = SIDE * SIDE;
const PIXELS = 3 * PLANE;
const MAX_BATCH_BYTES = 1024 ** 3;
const BATCH_10 = /(^|\/)(data_batch_\d+|test_batch)(\.bin)?$/;
const BATCH_100 = /(^|\/)cifar-100-(python|binary)\/(train|test)(\.bin)?$/;
const ARCHIVE = /^cifar-(10|100)-(binary|python)\.(tar|tar\.gz|tgz)$/i;

export function isCifarArchive(path: string): boolean {
  return ARCHIVE.test(basename(path));
}

/** Whether a path of a file or a member is that of a batch, of CIFAR-10 or 100, binary or for Python. */
export function isCifarBatch(path: string): boolean {
  return BATCH_10.test(path) || BATCH_100.test(path);
}

const splitOf = (path: string) => (/(^|\/)(test_batch|test)(\.bin)?$/.test(path) ? 'test' : 'train');

/**
 * Images of the chosen split of CIFAR's batch files, in the given order.
 *
 * @param paths of one folder; 'labels' of CIFAR-100 are chosen by `labelColumn`.
 */
export async function cifarFilesSource(
  name: string,
  paths: readonly string[],
  choice: SourceChoice,
): Promise<ImageSource> {
  const files = paths.length === 1 ? paths : chosenSplit(name, paths, splitOf, choice);
  const kind = await kindOfFile(files[0] ?? name, choice);
  return cifarSource(name, files, kind, async function* () {
    for (const path of files) yield* parseBatch(await readUnpacked(path), basename(path), kind);
  });
}

/** Images straight from one of CIFAR's archives, such as `cifar-10-python.tar.gz`, in the order of the archive. */
export async function cifarArchiveSource(path: string, choice: SourceChoice): Promise<ImageSource> {
  const kind = kindOf(/^cifar-100/i.test(basename(path)), path, choice);
  // That an archive has a test batch goes without saying: only a wrong split is an error.
  const split = chosenSplit(path, ['train', 'test'], (name) => name, choice);
  return cifarSource(path, [path], kind, async function* () {
    const batches = tarMembers(path, ({ name, type, size = 0 }) => {
      if (type !== 'file' || !isCifarBatch(name) || !split.includes(splitOf(name))) return undefined;
      return size > MAX_BATCH_BYTES ? { reason: `${size} bytes are too many for a batch of CIFAR` } : { keep: true };
    });
    for await (const batch of batches) {
      if ('reason' in batch) yield batch;
      else yield* parseBatch(batch.bytes, batch.source, kind);
    }
  });
}

/** Whether it is CIFAR-100, and which of its labels are read. */
interface CifarKind {
  readonly isHundred: boolean;
  readonly label: CifarLabel;
}

function kindOf(isHundred: boolean, where: string, choice: Pick<SourceChoice, 'labelColumn'>): CifarKind {
  const columns: readonly CifarLabel[] = isHundred ? ['fine_label', 'coarse_label'] : ['label'];
  const label = labelColumnOf(columns, choice, where);
  return { isHundred, label: columns.find((column) => column === label) ?? 'label' };
}

/** A binary file of CIFAR-100 has two label bytes a record, whatever its name. */
async function kindOfFile(path: string, choice: SourceChoice): Promise<CifarKind> {
  const { size } = await stat(path).catch((cause: unknown) => {
    throw new DatasetError(`${path} cannot be read: ${errorText(cause)}`, { cause });
  });
  const isHundred = BATCH_100.test(path) || (size % (1 + PIXELS) !== 0 && size % (2 + PIXELS) === 0);
  return kindOf(isHundred, path, choice);
}

async function cifarSource(
  name: string,
  files: readonly string[],
  { label }: CifarKind,
  images: () => AsyncIterable<SourceImage>,
): Promise<ImageSource> {
  const native = { height: SIDE, width: SIDE, channels: 3 } as const;
  const cacheKey = `cifar ${label} ${await fileStates(files)}`;
  return { name, native, classNames: CIFAR_NAMES[label], cacheKey, images };
}

/** The images of a batch; `where` names it in errors. @throws {DatasetError} when it is not one. */
function parseBatch(bytes: Uint8Array, where: string, kind: CifarKind): Generator<PlainImage> {
  // Protocols of pickles from 2 on begin with 0x80, which is no class.
  return bytes[0] === 0x80 ? parsePickledBatch(bytes, where, kind) : parseBinaryBatch(bytes, where, kind);
}

function* parseBinaryBatch(bytes: Uint8Array, where: string, kind: CifarKind): Generator<PlainImage> {
  const labelBytes = kind.isHundred ? 2 : 1;
  const record = labelBytes + PIXELS;
  if (bytes.length === 0 || bytes.length % record !== 0)
    throw new DatasetError(
      `${where} has ${bytes.length} bytes, not a multiple of ${record}: it is not a batch of CIFAR-${kind.isHundred ? 100 : 10}, or is damaged${kindNote(bytes)}`,
    );
  // The coarse label of CIFAR-100 comes first.
  const labelAt = kind.label === 'fine_label' ? 1 : 0;
  for (let begin = 0, index = 0; begin < bytes.length; begin += record, index++)
    yield image(bytes, begin + labelBytes, `${where}, image ${index}`, bytes[begin + labelAt], kind);
}

function* parsePickledBatch(bytes: Uint8Array, where: string, kind: CifarKind): Generator<PlainImage> {
  const batch = parsePickle(bytes, where);
  const [data, labels] = batch instanceof Map ? [batch.get('data'), batch.get(`${kind.label}s`)] : [];
  const count = data instanceof PickledArray ? data.bytes.length / PIXELS : Number.NaN;
  if (!(data instanceof PickledArray) || !Array.isArray(labels) || labels.length !== count)
    throw new DatasetError(`${where} is not a batch of CIFAR: it has no 'data' of images with their '${kind.label}s'`);
  for (let index = 0; index < count; index++)
    yield image(data.bytes, index * PIXELS, `${where}, image ${index}`, labels[index], kind);
}

function image(bytes: Uint8Array, begin: number, source: string, label: Pickled | undefined, kind: CifarKind) {
  const classes = CIFAR_NAMES[kind.label].length;
  if (typeof label !== 'number' || !(label >= 0 && label < classes))
    throw new DatasetError(`${source}: class ${label} is not one of 0..${classes - 1}`);
  const pixels = interleaved(bytes, begin);
  return { source, label, pixels, height: SIDE, width: SIDE, channels: 3 } as const;
}

function interleaved(bytes: Uint8Array, begin: number): Uint8Array {
  const pixels = new Uint8Array(PIXELS);
  for (let i = 0; i < PLANE; i++) {
    pixels[3 * i] = bytes[begin + i] as number;
    pixels[3 * i + 1] = bytes[begin + PLANE + i] as number;
    pixels[3 * i + 2] = bytes[begin + 2 * PLANE + i] as number;
  }
  return pixels;
}
