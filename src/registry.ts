import { ConfigError, InvalidArgumentError, type IsoDiffusionError } from './errors.ts';

/**
 * Things of one kind by name: model classes, schedulers, losses, metrics, feature extractors. Whatever reads such a name
 * (a saved config, an option, the command line) looks it up here: one `register` makes a new thing known everywhere.
 *
 * @example
 * schedulers.register('EulerScheduler', EulerScheduler);
 */
export class Registry<Thing> {
  private readonly things: Map<string, Thing>;

  /** @param kind what the things are, for errors: 'scheduler'. */
  constructor(
    readonly kind: string,
    things: Readonly<Record<string, Thing>>,
  ) {
    this.things = new Map(Object.entries(things));
  }

  /**
   * Makes `thing` known by `name`. Registering the same thing again does nothing.
   *
   * @throws {InvalidArgumentError} when the name is empty or belongs to another thing.
   */
  register(name: string, thing: Thing): void {
    if (typeof name !== 'string' || name.trim() === '')
      throw new InvalidArgumentError(`the name of a ${this.kind} must be a word, but is ${JSON.stringify(name)}`);
    const known = this.things.get(name);
    if (known !== undefined && known !== thing)
      throw new InvalidArgumentError(`there is a ${this.kind} '${name}' already: register yours under another name`);
    this.things.set(name, thing);
  }

  /** The names, in the order of registration. */
  names(): string[] {
    return [...this.things.keys()];
  }

  /** Undefined where nothing has the name. */
  find(name: unknown): Thing | undefined {
    return typeof name === 'string' ? this.things.get(name) : undefined;
  }

  /**
   * @param Failure the class of the error; default `InvalidArgumentError`.
   * @throws {IsoDiffusionError} of that class when nothing has the name, with the nearest name.
   */
  get(name: unknown, Failure: new (message: string) => IsoDiffusionError = InvalidArgumentError): Thing {
    const thing = this.find(name);
    if (thing !== undefined) return thing;
    const nearest = typeof name === 'string' ? nearestName(name, this.names()) : undefined;
    const advice = nearest === undefined ? '' : ` Did you mean '${nearest}'?`;
    throw new Failure(
      `${this.kind} ${JSON.stringify(name) ?? 'missing'} is not known: use ${this.names().join(', ')}, or register your own.${advice}`,
    );
  }
}

/**
 * The class that the `_class_name` of a saved config names.
 *
 * @throws {ConfigError} when `json` has none, or the class is not registered.
 */
export function savedClass<Class>(classes: Registry<Class>, json: unknown): Class {
  const className = typeof json === 'object' && json !== null && '_class_name' in json ? json._class_name : undefined;
  return classes.get(className, ConfigError);
}

/** The name that a misspelt one most likely means: the smallest edit distance, or undefined where none is near. */
export function nearestName(wrong: string, known: readonly string[]): string | undefined {
  // A long name is not worth measuring: nothing known is near it.
  const text = wrong.slice(0, 64).toLowerCase();
  const ranked = known
    .map((name) => ({ name, distance: editDistance(text, name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance < best.name.length && best.distance <= Math.max(2, best.name.length / 2)
    ? best.name
    : undefined;
}

/** Levenshtein's, row by row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
