import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Communicator, gatherOnFirst, gatherTexts } from '../../distributed/communicator.ts';
import { errorText, SnapshotEvaluationError } from '../../errors.ts';
import type { Share } from '../image-sources.ts';
import type { ShareFiles, SnapshotResult } from './evaluation-process.ts';
import type { SnapshotEvaluator } from './snapshot-evaluator.ts';

/** How often ranks that wait ask each other. */
const POLL_MS = 20;

/** A snapshot that all ranks are evaluating. */
interface Pending {
  readonly step: number;
  readonly epoch: number;
  /** Why the share of this rank failed; empty where it did not. */
  readonly failure: Promise<string>;
  hasEnded: boolean;
}

/** An evaluation that all ranks have done their shares of. */
export interface SharedOutcome {
  readonly step: number;
  readonly epoch: number;
  /** On rank 0: computes the metrics, and writes the image of samples. @throws {SnapshotEvaluationError} when a share failed. */
  merge(image: string): Promise<SnapshotResult>;
}

/** Names of files in the folder of a rank. */
const sharesIn = (folder: string, rank: number): ShareFiles => ({
  part: path.join(folder, `part-${rank}.safetensors`),
  samples: path.join(folder, `samples-${rank}`),
});

/**
 * Evaluations of a training on several ranks: each rank has a copy of the weights, draws and measures its share of the
 * images in the process beside it, and rank 0 merges what all found. Nothing of it needs a shared disk.
 *
 * All ranks call the methods at the same steps. What fails on one is said on rank 0 when all are done.
 */
export class SharedEvaluations {
  private pending: Pending | undefined;

  /** @param folder of this rank's own, for files. */
  constructor(
    private readonly ranks: Communicator,
    private readonly evaluator: SnapshotEvaluator,
    private readonly folder: string,
  ) {}

  /** Evaluates the model as it is now. @param save writes it into the folder `snapshot`. */
  async begin(
    { global_step: step, epoch }: { readonly global_step: number; readonly epoch: number },
    snapshot: string,
    save: () => Promise<void>,
  ): Promise<void> {
    const { ranks, evaluator, folder } = this;
    const share: Share = [ranks.rank + 1, ranks.size];
    let started: Promise<unknown>;
    try {
      await mkdir(folder, { recursive: true });
      await save();
      started = evaluator.share(snapshot, share, sharesIn(folder, ranks.rank));
    } catch (error) {
      started = Promise.reject(error);
    }
    const pending: Pending = {
      step,
      epoch,
      failure: started
        .then(() => '', errorText)
        .finally(() => {
          pending.hasEnded = true;
        }),
      hasEnded: false,
    };
    this.pending = pending;
  }

  /** Whether all ranks have ended what is under way. */
  async isReady(): Promise<boolean> {
    return this.pending !== undefined && this.isOfAll(this.pending.hasEnded);
  }

  /**
   * Waits until the work of all ranks has ended; it must not fail. A rank that waited inside MPI would keep a core busy, which
   * the processes of the evaluations have less right to.
   */
  async allEnded(work: Promise<unknown>): Promise<void> {
    let hasEnded = false;
    void work.then(() => {
      hasEnded = true;
    });
    while (!(await this.isOfAll(hasEnded))) await sleep(POLL_MS);
  }

  private async isOfAll(fact: boolean): Promise<boolean> {
    const all = new Uint8Array(this.ranks.size);
    await this.ranks.allGather(Uint8Array.of(fact ? 1 : 0), all);
    return all.every((one) => one === 1);
  }

  /** Waits for what is under way, and takes it; undefined where nothing is. */
  async collect(): Promise<SharedOutcome | undefined> {
    const { pending, ranks, folder } = this;
    if (!pending) return undefined;
    this.pending = undefined;
    await this.allEnded(pending.failure);
    const failures = await gatherTexts(ranks, await pending.failure);
    const rank = failures.findIndex((failure) => failure !== '');
    const own = sharesIn(folder, ranks.rank);
    // Where one failed, there is nothing to merge.
    const parts = rank >= 0 ? [] : await gatherOnFirst(ranks, await readOrEmpty(own.part));
    const samples = rank >= 0 ? [] : await gatherOnFirst(ranks, await readOrEmpty(own.samples));
    const { step, epoch } = pending;
    return {
      step,
      epoch,
      merge: async (image) => {
        if (rank >= 0) throw new SnapshotEvaluationError(`rank ${rank}: ${failures[rank]}`);
        const files = failures.map((_, other) => sharesIn(folder, other));
        for (const [other, file] of files.entries()) {
          await writeFile(file.part, parts?.[other] ?? '');
          await writeFile(file.samples, samples?.[other] ?? '');
        }
        return this.evaluator.merge(files, image);
      },
    };
  }

  /** Removes the files of this rank. */
  async clear(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Nothing where there are no metrics, or no samples. */
const readOrEmpty = (file: string): Promise<Uint8Array> => readFile(file).catch(() => new Uint8Array());
