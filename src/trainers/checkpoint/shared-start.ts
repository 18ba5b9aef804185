import { broadcastText, type Communicator } from '../../distributed/communicator.ts';
import { bytesOf } from '../../platform/bytes.ts';
import type { Ranks } from '../ranks.ts';
import type { StateKind } from '../step/update.ts';
import type { Resumption, RunCheckpoints } from './run-checkpoints.ts';
import type { RecordedChange, SettingChange } from './run-identity.ts';

/** What a training loop asks of the checkpoints of its run. */
export type Checkpoints = Pick<
  RunCheckpoints,
  'formerLog' | 'recordedChanges' | 'recordChanges' | 'save' | 'afterDivergence'
>;

interface Start {
  readonly checkpoints: Checkpoints;
  readonly start: Resumption | undefined;
}

/**
 * Where a run starts, on every rank: rank 0 reads the checkpoint, and tells the others.
 *
 * @param lengths of the vectors of the state.
 * @param open of rank 0 alone.
 */
export async function openForAll(
  ranks: Ranks,
  communicator: Communicator,
  lengths: ReadonlyMap<StateKind, number>,
  open: () => Promise<Start>,
): Promise<Start> {
  const opened = await ranks.onFirst(open);
  if (opened && communicator.size === 1) return opened;
  const { state: _, ...told } = opened?.start ?? {};
  const said = opened?.start && { ...told, recorded: opened.checkpoints.recordedChanges };
  const heard: Told | null = JSON.parse(await broadcastText(communicator, JSON.stringify(said ?? null)));
  const state = new Map(
    [...lengths].map(([kind, length]) => [kind, opened?.start?.state.get(kind) ?? new Float32Array(length)]),
  );
  if (heard) for (const vector of state.values()) await communicator.broadcast(bytesOf(vector));
  if (opened) return opened;
  const { recorded = [], ...start } = heard ?? {};
  return {
    checkpoints: new FollowedCheckpoints(recorded),
    start: heard ? { warning: undefined, ...heard, ...start, state } : undefined,
  };
}

/** What rank 0 tells of a `Resumption`: JSON, as its parts are of checkpoints. */
type Told = Omit<Resumption, 'state' | 'warning'> & { readonly recorded: readonly RecordedChange[] };

/** The checkpoints of rank 0, as another rank knows them. */
class FollowedCheckpoints implements Checkpoints {
  readonly formerLog = 'other';

  constructor(private changes: readonly RecordedChange[]) {}

  get recordedChanges(): readonly RecordedChange[] {
    return this.changes;
  }

  recordChanges(step: number, changes: readonly SettingChange[]): void {
    this.changes = [...this.changes, ...changes.map((change) => ({ step, ...change, while_running: true }))];
  }

  /** Rank 0 writes it. */
  async save(): Promise<string> {
    return '';
  }

  async afterDivergence(): Promise<string> {
    return 'Rank 0 says where to go on';
  }
}
