import { InvalidArgumentError } from '../../../errors.ts';
import type { SourceChoice } from './image-source.ts';

/*
 * Splits as the Hub's `datasets` finds them by the names of folders and files (datasets/data_files.py). We differ where
 * its rules would take a class for a split: a name with further words, such as `train_station`, is one only beside
 * another of the same form (`seg_train`, `seg_test`), and the names of image files are not looked at.
 */
const KEYWORDS: Readonly<Record<string, string>> = {
  train: 'train',
  training: 'train',
  validation: 'validation',
  valid: 'validation',
  val: 'validation',
  dev: 'validation',
  test: 'test',
  testing: 'test',
  eval: 'test',
  evaluation: 'test',
  /** Of MNIST: the test set has 10,000 images. */
  t10k: 'test',
};
const KEYWORD = new RegExp(`(?<![a-z])(${Object.keys(KEYWORDS).join('|')})(?![a-z])`, 'i');
/** After a keyword: a year or a size, as in `train2017` and `train_64x64`. */
const NUMBER = /^[-._ ]*(\d+(x\d+)?)?$/i;
/** `train-00000-of-00002.parquet`, whatever the split is called; a configuration's name may come before. */
const SHARD = /([A-Za-z0-9_.]+)-\d{5}-of-\d{5}/;

type SplitChoice = Pick<SourceChoice, 'split' | 'warn'>;

/** The split that a file or folder of a set is in; undefined if it is in none. */
export type SplitOf = (path: string) => string | undefined;

/** A name as `KEYWORDS` has it: 'val' and 'dev' are 'validation'. */
export function canonical(name: string): string {
  return KEYWORDS[name.toLowerCase()] ?? name;
}

/** Whether another file belongs to chosen ones by its split: it is in one of theirs, or in none. */
export function anyOf(splits: readonly (string | undefined)[]): (split: string | undefined) => boolean {
  const chosen = new Set(splits);
  return (split) => split === undefined || chosen.has(split);
}

interface NamedSplit {
  readonly split: string;
  /** The name without the keyword. */
  readonly rest: string;
}

function namedSplit(name: string): NamedSplit | undefined {
  const match = KEYWORD.exec(name);
  const split = match?.[1] && KEYWORDS[match[1].toLowerCase()];
  return match && split
    ? { split, rest: `${name.slice(0, match.index)}*${name.slice(match.index + match[0].length)}` }
    : undefined;
}

const isPlain = ({ rest }: NamedSplit) => rest.startsWith('*') && NUMBER.test(rest.slice(1));

/** The splits of folders that lie in one folder. */
function splitsOfSiblings(names: readonly string[], { split: asked, warn }: SplitChoice): Map<string, string> {
  const found = names.flatMap((name) => {
    const one = namedSplit(name);
    return one ? [{ name, one, form: isPlain(one) ? '*' : one.rest }] : [];
  });
  const splitsOfForm = new Map<string, Set<string>>();
  for (const { one, form } of found) splitsOfForm.set(form, (splitsOfForm.get(form) ?? new Set()).add(one.split));
  const splits = new Map<string, string>();
  for (const { name, one, form } of found) {
    const hasPartner = (splitsOfForm.get(form)?.size ?? 0) > 1;
    // A class may be called 'train': it is one of several folders, and there is no other split.
    const isAlone = names.length <= 2 || (asked !== undefined && asked !== 'all');
    if (hasPartner || (isPlain(one) && isAlone)) splits.set(name, one.split);
    else if (isPlain(one))
      warn(
        `the folder '${name}' is read as a class: it is one of ${names.length}, and there is no other split. Give '${one.split}' as split to read it alone`,
      );
  }
  return splits;
}

/** Splits by the folders in which files lie; `paths` are those of all files, with '/'. */
export function splitsByFolder(paths: readonly string[], choice: SplitChoice): SplitFolders {
  const children = new Map<string, Set<string>>();
  for (const path of paths) {
    const parts = path.split('/').slice(0, -1);
    parts.forEach((name, depth) => {
      const parent = parts.slice(0, depth).join('/');
      const names = children.get(parent) ?? new Set();
      children.set(parent, names.add(name));
    });
  }
  const splits = new Map<string, string>();
  for (const [parent, names] of children)
    for (const [name, split] of splitsOfSiblings([...names], choice))
      splits.set(parent === '' ? name : `${parent}/${name}`, split);
  return new SplitFolders(splits);
}

/** Which folders are splits. */
export class SplitFolders {
  constructor(private readonly splits: ReadonlyMap<string, string>) {}

  /** The outermost folder that is a split decides. */
  readonly splitOf: SplitOf = (path) => {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
      const split = this.splits.get(path.slice(0, end));
      if (split !== undefined) return split;
    }
    return undefined;
  };

  /** The path without the folders that are splits: what is left of it can be a class. */
  withoutSplits(path: string): string {
    const parts = path.split('/');
    return parts
      .filter((_, i) => i === parts.length - 1 || !this.splits.has(parts.slice(0, i + 1).join('/')))
      .join('/');
  }
}

/** Splits by the names of data files, such as `train-00000-of-00002.parquet`, else by their folders. */
export function splitsByFile(paths: readonly string[], choice: SplitChoice): SplitOf {
  const { splitOf } = splitsByFolder(paths, choice);
  const shardOf = (path: string) => SHARD.exec(path.slice(path.lastIndexOf('/') + 1))?.[1];
  const byName = (path: string) => {
    const name = path.slice(path.lastIndexOf('/') + 1);
    return splitOf(path) ?? (namedSplit(shardOf(path) ?? '') ?? namedSplit(name))?.split;
  };
  // `unsupervised-00000-of-00002` is a split beside `train-...`; alone it is a name like any other.
  return paths.some((path) => byName(path) !== undefined) ? (path) => byName(path) ?? shardOf(path) : byName;
}

/**
 * The files of the chosen split. All of them where there are no splits: they are 'train'.
 *
 * @param what what the files are, for messages: 'images'.
 * @throws {InvalidArgumentError} when there is no such split; lists those that there are.
 */
export function chosenSplit<File>(
  where: string,
  files: readonly File[],
  splitOf: (file: File) => string | undefined,
  { split: asked, warn }: SplitChoice,
): File[] {
  if (asked === 'all') return [...files];
  const splitOfEach = files.map(splitOf);
  const splits = [...new Set(splitOfEach)].filter((split) => split !== undefined).sort();
  const outside = splitOfEach.filter((split) => split === undefined).length;
  // Whoever has a single split, such as 'test' alone, means that one.
  const onlySplit = splits.length === 1 && outside === 0 ? splits[0] : undefined;
  const chosen = asked === undefined ? (onlySplit ?? 'train') : canonical(asked);
  if (splits.length === 0 && chosen === 'train') return [...files];
  if (!splits.includes(chosen))
    throw new InvalidArgumentError(
      splits.length === 0
        ? `split is '${asked}', but ${where} has no splits: leave it out`
        : `${where} has ${listed(splits)}, but not '${chosen}': give one of them as split, or 'all'`,
    );
  const others = splits.filter((split) => split !== chosen);
  if (asked === undefined && onlySplit !== undefined && onlySplit !== 'train')
    warn(`${where}: the split '${onlySplit}' is read, there is no other`);
  if (outside > 0 || (asked === undefined && others.length > 0))
    warn(
      `${where}: the split '${chosen}' is read, not ${[
        ...(others.length > 0 ? [listed(others)] : []),
        ...(outside > 0 ? [`the ${outside} files outside of splits`] : []),
      ].join(' and ')}`,
    );
  return files.filter((_, i) => splitOfEach[i] === chosen);
}

/** @throws {InvalidArgumentError} when a split is asked for, and a file that is given by itself is of another. */
export function requireSplit(path: string, choice: SplitChoice): void {
  const name = path.split(/[\\/]/).slice(-1);
  if (choice.split !== undefined) chosenSplit(path, name, splitsByFile(name, choice), choice);
}

function listed(splits: readonly string[]): string {
  return `the split${splits.length > 1 ? 's' : ''} ${splits.map((split) => `'${split}'`).join(', ')}`;
}
