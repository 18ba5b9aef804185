import { DatasetError, errorText, InvalidArgumentError } from '../../../errors.ts';
import type { SkippedImage } from '../image-set.ts';
import { classOf, labelColumnOf } from './image-source.ts';

/*
 * Samples of webdataset's shards: members of a tar archive that follow each other and share a name up to its first dot,
 * such as `0001.jpg`, `0001.cls` and `0001.json` (https://github.com/webdataset/webdataset).
 */

/** Members of a sample are held until it ends. */
const MAX_SAMPLE_BYTES = 1024 ** 3;

interface Member {
  readonly source: string;
  readonly bytes: Uint8Array;
}

/** What members of one sample share. */
export function sampleKey(path: string): string {
  const name = path.lastIndexOf('/') + 1;
  const dot = path.indexOf('.', name);
  return dot < 0 ? path : path.slice(0, dot);
}

/** Whether a member holds what is known about the image of its sample. */
export function isSidecar(path: string): boolean {
  return /\.(cls|json)$/i.test(path);
}

interface Sample {
  readonly key: string;
  readonly images: Member[];
  bytes: number;
  /** From a `.cls` file. */
  cls?: number | string | undefined;
  fields: Readonly<Record<string, unknown>>;
}

/**
 * The images among members, with the classes that their `.cls` or `.json` files give them.
 *
 * @param labelColumn a field of the JSON, or 'cls'; undefined: `.cls`, else the first usual field.
 * @throws {InvalidArgumentError} when no sample has the field that was asked for.
 */
export async function* withSidecars(
  members: AsyncIterable<Member | SkippedImage>,
  { labelColumn }: { readonly labelColumn: string | undefined },
  archive: string,
): AsyncGenerator<(Member & { label: number | string | undefined }) | SkippedImage> {
  let sample: Sample | undefined;
  const names = new Set<string>();
  let hasField = false;
  const labelOf = ({ cls, fields }: Sample): number | string | undefined => {
    for (const name of Object.keys(fields)) if (names.size < 100) names.add(name);
    if (labelColumn === undefined)
      return cls ?? classOf(fields[labelColumnOf(Object.keys(fields), { labelColumn }, archive) ?? '']);
    const value =
      labelColumn === 'cls' && cls !== undefined
        ? cls
        : Object.hasOwn(fields, labelColumn)
          ? fields[labelColumn]
          : undefined;
    hasField ||= value !== undefined;
    return classOf(value);
  };
  const finished = function* ({ images, ...rest }: Sample) {
    const label = labelOf({ images, ...rest });
    if (images.length === 0) yield { source: rest.key, reason: 'its label is not next to its image in the archive' };
    for (const image of images) yield { ...image, label };
  };
  for await (const member of members) {
    if ('reason' in member) {
      yield member;
      continue;
    }
    const key = sampleKey(member.source);
    if (sample && sample.key !== key) yield* finished(sample);
    if (sample?.key !== key) sample = { key, images: [], bytes: 0, fields: {} };
    sample.bytes += member.bytes.length;
    if (sample.bytes > MAX_SAMPLE_BYTES)
      throw new DatasetError(`${archive}: the files called ${key} have more than ${MAX_SAMPLE_BYTES} bytes together`);
    if (!isSidecar(member.source)) sample.images.push(member);
    else if (/\.cls$/i.test(member.source)) sample.cls = classOf(member.bytes);
    else
      try {
        sample.fields = Object(JSON.parse(Buffer.from(member.bytes).toString()));
      } catch (error) {
        yield { source: member.source, reason: `not JSON: ${errorText(error)}` };
      }
  }
  if (sample) yield* finished(sample);
  if (sample && labelColumn !== undefined && !hasField)
    throw new InvalidArgumentError(
      `label_column is '${labelColumn}', but no image of ${archive} has it: there is ${[...names].join(', ') || 'no JSON'}`,
    );
}
