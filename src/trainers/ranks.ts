import { broadcastText, type Communicator, gatherTexts } from '../distributed/communicator.ts';
import { DistributedError, errorText, NonFiniteLossError } from '../errors.ts';
import type { RunIdentity } from './checkpoint/run-identity.ts';
import { settingsThatDiffer } from './checkpoint/run-identity.ts';

const GOES_ON = 0;
const STOPS = 1;
const FAILED = 2;

/**
 * What the ranks of a run agree on between its steps: that all have the same arguments, whether one was told to stop, and
 * whether one failed, so that no rank waits for another in vain. A process by itself agrees at once.
 */
export class Ranks {
  /** Whether a rank has failed, so that nobody listens any more. */
  private isOver = false;
  /** Whether the ranks are inside a step, where they do not listen for failures. */
  private isInside = false;

  constructor(private readonly communicator: Communicator) {}

  /** Whether this is the rank that writes. */
  get isFirst(): boolean {
    return this.communicator.rank === 0;
  }

  /** Work that all ranks do together, such as a step. What is not finite is so on every rank. */
  async together<Result>(work: () => Promise<Result>): Promise<Result> {
    this.isInside = true;
    try {
      const result = await work();
      this.isInside = false;
      return result;
    } catch (error) {
      this.isInside = !(error instanceof NonFiniteLossError);
      throw error;
    }
  }

  /**
   * Work of rank 0, for which the others wait.
   *
   * @returns undefined on the others.
   * @throws {DistributedError} on the others when it failed.
   */
  async onFirst<Result>(work: () => Promise<Result>): Promise<Result | undefined> {
    const result = this.isFirst ? await work() : undefined;
    await this.exchange(GOES_ON, '');
    return result;
  }

  /**
   * Whether all go on: no rank was told to stop.
   *
   * @param text what rank 0 has to say; of the others it is not heard.
   * @throws {DistributedError} when another rank failed.
   */
  async agree(stops: boolean, text: string): Promise<{ readonly stops: boolean; readonly text: string }> {
    return this.exchange(stops ? STOPS : GOES_ON, text);
  }

  /** Waits until all have stopped, and rank 0 has written what was to write. */
  async end(): Promise<void> {
    await this.exchange(GOES_ON, '');
    this.communicator.stopsTogether();
  }

  /** Tells the others that this rank failed, where they listen. Otherwise the end of its process ends them. */
  async fail(): Promise<void> {
    if (this.communicator.size === 1 || this.isOver || this.isInside) return;
    await this.exchange(FAILED, '').catch(() => undefined);
  }

  /** @throws {DistributedError} on all ranks when one has other arguments than rank 0. */
  async refuseOtherArguments(identity: RunIdentity): Promise<void> {
    if (this.communicator.size === 1) return;
    const texts = await gatherTexts(this.communicator, JSON.stringify(identity));
    const [first = '{}', ...others] = texts;
    const rank = 1 + others.findIndex((text) => text !== first);
    if (rank === 0) return;
    this.isOver = true;
    const differing = settingsThatDiffer(JSON.parse(first), JSON.parse(texts[rank] ?? '{}'));
    const list = differing.map(({ name, before, now }) => `${name} is ${now}, on rank 0 ${before}`);
    throw new DistributedError(
      `rank ${rank} was started with other arguments than rank 0: ${list.join('; ')}. Start all ranks with the same command and the same data`,
    );
  }

  private async exchange(status: number, text: string): Promise<{ readonly stops: boolean; readonly text: string }> {
    const { communicator } = this;
    const { size, rank } = communicator;
    if (size === 1) return { stops: status === STOPS, text };
    const all = new Uint8Array(2 * size);
    await communicator.allGather(Uint8Array.of(status, Number(text !== '')), all).catch((error: unknown) => {
      this.isOver = true;
      throw error instanceof DistributedError ? error : new DistributedError(errorText(error), { cause: error });
    });
    const statuses = Array.from({ length: size }, (_, other) => all[2 * other]);
    const failed = statuses.indexOf(FAILED);
    if (failed >= 0) this.isOver = true;
    if (failed >= 0 && failed !== rank)
      throw new DistributedError(`rank ${failed} failed, and says why: this rank, ${rank}, stops with it`);
    return { stops: statuses.includes(STOPS), text: all[1] ? await broadcastText(communicator, text) : '' };
  }
}
