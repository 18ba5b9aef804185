import { DatasetError, errorText } from '../errors.ts';
import * as z from '../zod.ts';

/*
 * What the README.md of a data set says in its YAML header: `configs`, the files of each configuration by split, and
 * `dataset_info`, the names of classes (https://huggingface.co/docs/hub/datasets-manual-configuration).
 */

/** A configuration, also called a subset. */
export interface DatasetConfig {
  readonly name: string;
  readonly isDefault: boolean;
  /** The folder that its files are in; '' for all of the repository. */
  readonly folder: string;
  /** The patterns of the files of each split; undefined: splits are found by the names of files. */
  readonly splits: ReadonlyMap<string, readonly string[]> | undefined;
}

export interface DatasetCard {
  readonly configs: readonly DatasetConfig[];
  /** The names of the classes of a column by number, where the card has them. */
  classNames(config: string, column: string): readonly string[] | undefined;
}

const pattern = z.string().check(z.maxLength(500));
const paths = z.union([
  z.pipe(
    pattern,
    z.transform((one) => [one]),
  ),
  z.array(pattern).check(z.maxLength(1000)),
]);
const dataFiles = z.union([
  z.pipe(
    paths,
    z.transform((all) => new Map([['train', all]])),
  ),
  z.pipe(
    z.array(z.looseObject({ split: z.string(), path: paths })),
    z.transform((splits) => new Map(splits.map(({ split, path }) => [split, path]))),
  ),
  z.pipe(
    z.record(z.string(), paths),
    z.transform((splits) => new Map(Object.entries(splits))),
  ),
]);

/** `names` is a list, or an object by number in text. */
const classLabel = z.union([
  z.array(z.string()),
  z.pipe(
    z.record(z.string().check(z.regex(/^\d{1,9}$/)), z.string()),
    z.transform((names) =>
      Object.entries(names)
        .sort(([a], [b]) => Number(a) - Number(b))
        .map(([, name]) => name),
    ),
  ),
]);
const feature = z.looseObject({
  name: z.optional(z.string()),
  dtype: z.pipe(
    z.unknown(),
    z.transform((dtype) => featureType.safeParse(dtype).data?.class_label.names),
  ),
});
const featureType = z.looseObject({ class_label: z.looseObject({ names: classLabel }) });
const info = z.looseObject({
  config_name: z._default(z.string(), 'default'),
  features: z._default(z.array(feature), []),
});

const headerSchema = z.looseObject({
  configs: z._default(
    z.array(
      z.looseObject({
        config_name: z._default(z.string(), 'default'),
        default: z._default(z.boolean(), false),
        data_dir: z._default(z.string(), ''),
        data_files: z.optional(dataFiles),
      }),
    ),
    [],
  ),
  dataset_info: z._default(
    z.union([
      z.array(info),
      z.pipe(
        info,
        z.transform((one) => [one]),
      ),
    ]),
    [],
  ),
});

/**
 * Reads the card of a data set. A card without a header says nothing.
 *
 * @param where its name in errors.
 * @throws {DatasetError} when the header is not YAML, or its `configs` or `dataset_info` are not as documented.
 */
export async function parseDatasetCard(text: string, where: string): Promise<DatasetCard> {
  const { parse } = await import('yaml');
  const [, yaml = ''] = /^---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)/s.exec(text) ?? [];
  let header: z.output<typeof headerSchema>;
  try {
    header = headerSchema.parse(parse(yaml) ?? {});
  } catch (cause) {
    const reason = cause instanceof z.$ZodError ? z.prettifyError(cause) : errorText(cause);
    throw new DatasetError(`${where}: its header does not describe a data set: ${reason}`, { cause });
  }
  return {
    configs: header.configs.map(({ config_name, default: isDefault, data_dir, data_files }) => ({
      name: config_name,
      isDefault,
      folder: plain(data_dir),
      splits: data_files && new Map([...data_files].map(([split, patterns]) => [split, patterns.map(plain)])),
    })),
    classNames: (config, column) => {
      const ofConfig = header.dataset_info.find(({ config_name }) => config_name === config);
      const described = ofConfig ?? (header.dataset_info.length === 1 ? header.dataset_info[0] : undefined);
      return described?.features.find(({ name }) => name === column)?.dtype;
    },
  };
}

/** A path without './' before it and '/' behind it. */
function plain(path: string): string {
  return path.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
}

/**
 * Whether a path fits a pattern of `data_files`: `*` and `?` are any characters of one name, `**` any at all, `[ab]` one of
 * these. All ways to read the pattern are followed at once: a hostile one takes no longer than its length times the path's.
 */
export function matchesPattern(pattern: string, path: string): boolean {
  const tokens = pattern.match(/\*\*\/|\*+|\[[^\]/]+\]|./gsu) ?? [];
  const enter = (places: Set<number>, place: number) => {
    places.add(place);
    // Every kind of star may also stand for nothing.
    if (tokens[place]?.startsWith('*')) enter(places, place + 1);
    return places;
  };
  let places = enter(new Set(), 0);
  for (const character of path) {
    const next = new Set<number>();
    for (const place of places) {
      const token = tokens[place];
      if (token === undefined) continue;
      if (token === '**/') {
        next.add(place);
        if (character === '/') enter(next, place + 1);
      } else if (token.startsWith('*')) {
        if (token.length > 1 || character !== '/') enter(next, place);
      } else if (fits(token, character)) enter(next, place + 1);
    }
    places = next;
  }
  return places.has(tokens.length);
}

function fits(token: string, character: string): boolean {
  if (token === '?') return character !== '/';
  if (token.length === 1) return token === character;
  const set = token.slice(1, -1);
  const negated = /^[!^]/.test(set);
  for (let i = negated ? 1 : 0; i < set.length; i++) {
    const [first = '', , last = ''] = [set[i], set[i + 1], set[i + 2]];
    const isRange = set[i + 1] === '-' && last !== '';
    if (isRange ? first <= character && character <= last : first === character) return !negated;
    if (isRange) i += 2;
  }
  return negated;
}
