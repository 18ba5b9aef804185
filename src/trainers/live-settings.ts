import { requireObject } from '../arguments.ts';
import { CheckpointError, InvalidArgumentError } from '../errors.ts';
import type { LossScalar } from '../losses/loss.ts';
import type { RecordedChange, SettingChange } from './checkpoint/run-identity.ts';

/** What `Trainer.change` sets; what is left out stays as it is. */
export interface TrainingChanges {
  /** The learning rate before schedule and warm-up are applied, finite and at least 0; default: as it is. */
  readonly learning_rate?: number | undefined;
  /** Scalars of the loss by name, such as `{ lambda: 0.2 }`: those of `changeable_scalars`. Default: as they are. */
  readonly loss?: Readonly<Record<string, number>> | undefined;
}

const LEARNING_RATE = 'learning_rate';
/** How the scalar of a loss is called in records of changes. */
const ofLoss = (scalar: string) => `loss.${scalar}`;

/**
 * The settings of a run that may change between two steps: the learning rate, and scalars of the loss that are inputs of
 * the graph. A change waits until the loop begins its next steps.
 */
export class LiveSettings {
  private readonly values: Map<string, number>;
  private readonly scalars: ReadonlyMap<string, LossScalar>;
  private pending = new Map<string, number>();

  /** @throws {InvalidArgumentError} when the loss has no such scalar. */
  constructor(
    learningRate: number,
    loss: { readonly config: { readonly name: string }; readonly scalars: Readonly<Record<string, LossScalar>> },
    changeable: readonly string[],
  ) {
    this.scalars = new Map(
      changeable.map((name) => {
        const scalar = Object.hasOwn(loss.scalars, name) ? loss.scalars[name] : undefined;
        if (scalar) return [name, scalar];
        const known = Object.keys(loss.scalars).join(', ') || 'none';
        throw new InvalidArgumentError(
          `changeable_scalars names '${name}', but the loss '${loss.config.name}' has no such scalar (it has: ${known})`,
        );
      }),
    );
    const scalars = [...this.scalars].map(([name, { value }]) => [ofLoss(name), value] as const);
    this.values = new Map([[LEARNING_RATE, learningRate], ...scalars]);
  }

  /** The learning rate before schedule and warm-up are applied. */
  get learningRate(): number {
    return this.values.get(LEARNING_RATE) ?? Number.NaN;
  }

  /** The scalars of the loss that are inputs of the graph, by name. */
  get lossScalars(): Readonly<Record<string, number>> {
    return Object.fromEntries(
      [...this.scalars.keys()].map((name) => [name, this.values.get(ofLoss(name)) ?? Number.NaN]),
    );
  }

  /**
   * Takes over what a run had changed when its checkpoint was written.
   *
   * @returns what differs from the settings that this run was made with.
   * @throws {CheckpointError} when a scalar of the loss was changed that is a constant in this run.
   */
  restore(recorded: readonly RecordedChange[]): SettingChange[] {
    const made = new Map(this.values);
    for (const { name, to, while_running } of recorded) {
      // The arguments of a resumed run count more than what an earlier process had changed.
      if (!while_running && name === LEARNING_RATE) this.values.set(name, made.get(name) ?? Number.NaN);
      if (!while_running || typeof to !== 'number') continue;
      if (!this.values.has(name))
        throw new CheckpointError(
          `${name} was changed to ${to} while the run of the checkpoint lasted, but is a constant in this one: name it in changeable_scalars`,
        );
      this.values.set(name, to);
    }
    return [...this.values].flatMap(([name, to]) => {
      const from = made.get(name);
      return from === to ? [] : [{ name, from, to }];
    });
  }

  /** @throws {InvalidArgumentError} when a value is out of range, or a scalar is not changeable. */
  request(changes: TrainingChanges): void {
    requireObject('the argument of change()', changes);
    const { learning_rate, loss = {}, ...others } = changes;
    requireObject('the changes of the loss', loss);
    const [unknown] = Object.keys(others);
    if (unknown !== undefined)
      throw new InvalidArgumentError(
        `change() cannot change '${unknown}': it takes learning_rate and loss, such as { loss: { lambda: 0.2 } }`,
      );
    const wanted = new Map<string, number>();
    if (learning_rate !== undefined) wanted.set(LEARNING_RATE, checked(LEARNING_RATE, learning_rate, 0));
    for (const [name, value] of Object.entries(loss)) {
      const scalar = this.scalars.get(name);
      if (!scalar)
        throw new InvalidArgumentError(
          `'${name}' of the loss is a constant of this run: name it in changeable_scalars when the Trainer is made (it has: ${[...this.scalars.keys()].join(', ') || 'none'})`,
        );
      wanted.set(ofLoss(name), checked(ofLoss(name), value, scalar.min));
    }
    for (const [name, value] of wanted) this.pending.set(name, value);
  }

  /** The changes that wait, as text; '' where there are none. */
  get waiting(): string {
    return this.pending.size === 0 ? '' : JSON.stringify([...this.pending]);
  }

  /** Lets the changes of rank 0 wait instead. @param text its `waiting`. */
  replaceWaiting(text: string): void {
    this.pending = new Map(text === '' ? [] : (JSON.parse(text) as [string, number][]));
  }

  /** Puts the changes that wait into force. */
  apply(): SettingChange[] {
    const changes = [...this.pending].flatMap(([name, to]) => {
      const from = this.values.get(name);
      return from === to ? [] : [{ name, from, to }];
    });
    for (const [name, value] of this.pending) this.values.set(name, value);
    this.pending = new Map();
    return changes;
  }
}

/** What `Trainer.change` did in a run, one line for each setting, as a model card shows it. */
export function changesWhileRunning(recorded: readonly RecordedChange[] = []): Record<string, string> {
  const changes = recorded.filter(({ while_running }) => while_running);
  return Object.fromEntries(
    [...new Set(changes.map(({ name }) => name))].map((name) => {
      const own = changes.filter((change) => change.name === name);
      const times = own.length > 1 ? `, the last of ${own.length} changes` : '';
      const [first, last] = [own[0], own.at(-1)];
      return [`${name} while training`, `${first?.from} at first, ${last?.to} from step ${last?.step}${times}`];
    }),
  );
}

function checked(name: string, value: number, min: number | undefined): number {
  if (typeof value === 'number' && Number.isFinite(value) && (min === undefined || value >= min)) return value;
  const range = min === undefined ? 'a finite number' : `a finite number of at least ${min}`;
  throw new InvalidArgumentError(`${name} cannot be changed to ${String(value)}: it must be ${range}`);
}
