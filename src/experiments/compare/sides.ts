// Runs that differ in the seed alone are one side of a comparison; what changes is measured between pairs of a seed.
import path from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { changeText, isBetter, isClear, metricTitle } from '../statistics/change.ts';
import { type Spread, spreadOf } from '../statistics/spread.ts';
import { counted } from '../text.ts';
import type { Setting, StoredMetrics, StoredRun } from './run.ts';

/** A metric on one side. */
export interface ComparedValue {
  /** Mean and interval over the runs of the side. */
  readonly spread: Spread;
  /**
   * The change against the first side: over pairs of the same seed, or between the only runs of both. Undefined for the first
   * side itself, and where there is no pair.
   */
  readonly change: Spread | undefined;
}

/** One run, or several that differ in the seed alone. */
export interface ComparedSide {
  /** What the folders of its runs have in common. */
  readonly name: string;
  /** The folders, in the order in which they were given. */
  readonly runs: readonly string[];
  /** Of each run; undefined where a folder does not say. */
  readonly seeds: readonly (number | undefined)[];
  /** Metrics by name; none where nothing was measured. */
  readonly values: Readonly<Record<string, ComparedValue>>;
}

/** A run with what is compared of it. */
export interface MeasuredRun extends StoredRun {
  readonly name: string;
}

/** The runs of one side. */
export interface Side {
  readonly name: string;
  readonly runs: readonly MeasuredRun[];
}

/** @throws {InvalidArgumentError} for runs of different tasks or shapes, and for a folder that is named twice. */
export function sidesOf(runs: readonly StoredRun[]): Side[] {
  const kindOf = ({ task, shape }: StoredRun) => `${task}${shape ? ` of the shape [${shape.join(', ')}]` : ''}`;
  const [first] = runs;
  const other = first && runs.find((run) => kindOf(run) !== kindOf(first));
  if (other)
    throw new InvalidArgumentError(
      `${first.folder} draws ${kindOf(first)}, but ${other.folder} draws ${kindOf(other)}: they cannot be compared`,
    );
  const names = distinctNames(runs.map(({ folder }) => folder));
  const groups: { readonly key: string; readonly runs: MeasuredRun[] }[] = [];
  for (const [i, run] of runs.entries()) {
    // A pipeline does not say its seed: two of the same settings are two sides.
    const key = run.seed === undefined ? `run ${i}` : JSON.stringify(Object.entries(run.settings).sort());
    const named = { ...run, name: names[i] ?? run.folder };
    // A run that somebody repeated is compared with the first one.
    const group = groups.find((one) => one.key === key && one.runs.every(({ seed }) => seed !== run.seed));
    if (group) group.runs.push(named);
    else groups.push({ key, runs: [named] });
  }
  return groups.map((group) => ({ name: commonName(group.runs.map(({ name }) => name)), runs: group.runs }));
}

/** The last parts of paths that tell them apart. */
function distinctNames(folders: readonly string[]): string[] {
  const parts = folders.map((folder) => path.resolve(folder).split(path.sep));
  for (let length = 1; length <= Math.max(...parts.map((all) => all.length)); length++) {
    const names = parts.map((all) => all.slice(-length).join('/'));
    if (new Set(names).size === names.length) return names;
  }
  const twice = folders.find((folder, i) => folders.findIndex((one) => path.resolve(one) === path.resolve(folder)) < i);
  throw new InvalidArgumentError(`${twice} is named twice: name runs that differ`);
}

function commonName(names: readonly string[]): string {
  const [first = '', ...others] = names;
  if (others.length === 0) return first;
  let length = first.length;
  for (const name of others) while (!name.startsWith(first.slice(0, length))) length--;
  return (
    first.slice(0, length).replace(/[-_./]*(seed)?[-_./]*$/, '') || `${first} and ${counted(others.length, 'other')}`
  );
}

/** The settings of sides, by name. */
export interface ComparedSettings {
  /** Those that are not the same: a value for each side, undefined where its folder does not say. */
  readonly differing: Readonly<Record<string, readonly (Setting | undefined)[]>>;
  /** The names of those that only some folders say, where these agree. */
  readonly untold: readonly string[];
}

export function comparedSettings(sides: readonly Side[]): ComparedSettings {
  const all = sides.map(({ runs }) => runs[0]?.settings ?? {});
  const names = [...new Set(all.flatMap((settings) => Object.keys(settings)))];
  const rows = names.map((name) => [name, all.map((settings) => settings[name])] as const);
  const known = (values: readonly (Setting | undefined)[]) => new Set(values.filter((value) => value !== undefined));
  const isUntold = (values: readonly (Setting | undefined)[]) => known(values).size === 1 && values.includes(undefined);
  return {
    differing: Object.fromEntries(rows.filter(([, values]) => known(values).size > 1)),
    untold: rows.filter(([, values]) => isUntold(values)).map(([name]) => name),
  };
}

/** @param measured the values of each run, by its folder; runs without any are left out. */
export function comparedSides(
  sides: readonly Side[],
  measured: ReadonlyMap<string, Pick<StoredMetrics, 'values'>>,
): ComparedSide[] {
  const [base] = sides;
  return sides.map((side) => {
    const valuesOf = (name: string) => side.runs.flatMap(({ folder }) => measured.get(folder)?.values[name] ?? []);
    const names = [...new Set(side.runs.flatMap(({ folder }) => Object.keys(measured.get(folder)?.values ?? {})))];
    const entries = names.flatMap((name): [string, ComparedValue][] => {
      const spread = spreadOf(valuesOf(name));
      const changes =
        side === base || !base
          ? []
          : pairsOf(base, side).flatMap(([before, after]) => {
              const [from, to] = [measured.get(before.folder)?.values[name], measured.get(after.folder)?.values[name]];
              return from === undefined || to === undefined ? [] : [to - from];
            });
      return spread ? [[name, { spread, change: spreadOf(changes) }]] : [];
    });
    return {
      name: side.name,
      runs: side.runs.map(({ folder }) => folder),
      seeds: side.runs.map(({ seed }) => seed),
      values: Object.fromEntries(entries),
    };
  });
}

function pairsOf(base: Side, side: Side): (readonly [StoredRun, StoredRun])[] {
  const [only, other] = [base.runs[0], side.runs[0]];
  if (only && other && base.runs.length === 1 && side.runs.length === 1) return [[only, other]];
  return side.runs.flatMap((run) => {
    const before = base.runs.find(({ seed }) => seed !== undefined && seed === run.seed);
    return before ? [[before, run] as const] : [];
  });
}

/** One sentence a side on what clearly changes, which claims no more than the intervals allow. */
export function comparisonText(sides: readonly ComparedSide[]): string {
  const [base, ...others] = sides;
  if (!base || others.length === 0) return 'All runs differ in the seed alone: there is nothing to compare them with.';
  return others.map((side) => sideText(side, base)).join(' ');
}

function sideText({ name, values }: ComparedSide, base: ComparedSide): string {
  const measured = Object.entries(values).filter(([, { change }]) => change !== undefined);
  const against = `${name} against ${base.name}`;
  if (measured.length === 0) return `${against}: nothing was measured on both.`;
  const pairs = Math.max(...measured.map(([, { change }]) => change?.runs ?? 0));
  if (pairs < 2) return `${against}: one pair of runs. Only several seeds a side can tell a change from chance.`;
  const clear = measured.filter(([, { change }]) => isClear(change));
  const unclear = measured.filter(([, { change }]) => !isClear(change)).map(([metric]) => metricTitle(metric));
  const changes = clear.map(([metric, { change }]) => {
    const better = isBetter(metric, change);
    return `${changeText(change, metricTitle(metric))}${better === undefined ? '' : better ? ' (better)' : ' (worse)'}`;
  });
  const told = changes.length > 0 ? changes.join(', ') : 'no metric changes clearly';
  return `${against}: ${told}${changes.length > 0 && unclear.length > 0 ? `; ${unclear.join(', ')} unclear` : ''}; ${pairs} pairs.`;
}
