import os from 'node:os';
import { errorText, SnapshotEvaluationError } from '../../errors.ts';
import { packageScript } from '../../files/package-files.ts';
import { type Channel, startProcess } from '../../threads/channel.ts';
import type { Share } from '../image-sources.ts';
import type { EvaluatorRequest, ShareFiles, SnapshotResult, SnapshotSettings } from './evaluation-process.ts';

export { SnapshotEvaluationError };

/**
 * Evaluates snapshots in a process of its own, with a lower priority than the training it belongs to: what it computes
 * takes cores only where training leaves them, and no setting or memory of it reaches the training process.
 */
export class SnapshotEvaluator {
  private readonly channel: Channel<EvaluatorRequest, SnapshotResult>;

  private constructor() {
    const script = packageScript('evaluation/callback/evaluation-process.ts');
    const { channel, pid } = startProcess<EvaluatorRequest, SnapshotResult>(script, { stderr: 'inherit' });
    this.channel = channel;
    if (pid !== undefined) lowerPriority(pid);
  }

  /** @throws {SnapshotEvaluationError} when the settings cannot be used, for instance because the extractor's weights are missing. */
  static async start(settings: SnapshotSettings): Promise<SnapshotEvaluator> {
    const evaluator = new SnapshotEvaluator();
    try {
      await evaluator.request({ kind: 'prepare', settings });
    } catch (error) {
      await evaluator.stop();
      throw error;
    }
    return evaluator;
  }

  /**
   * @param snapshot a pipeline folder. @param image where to write its samples, without extension.
   * @throws {SnapshotEvaluationError}
   */
  run(snapshot: string, image: string): Promise<SnapshotResult> {
    return this.request({ kind: 'run', snapshot, image });
  }

  /**
   * Draws and measures a share of a snapshot.
   *
   * @param files where to write what was found.
   * @throws {SnapshotEvaluationError}
   */
  share(snapshot: string, share: Share, files: ShareFiles): Promise<SnapshotResult> {
    return this.request({ kind: 'share', snapshot, share, files });
  }

  /**
   * The result of a snapshot of which these files have all shares.
   *
   * @param image where to write its samples, without extension.
   * @throws {SnapshotEvaluationError}
   */
  merge(files: readonly ShareFiles[], image: string): Promise<SnapshotResult> {
    return this.request({ kind: 'merge', files, image });
  }

  /** Ends the process at once; what it is doing is lost. */
  stop(): Promise<void> {
    return this.channel.release('it was stopped');
  }

  private request(request: EvaluatorRequest): Promise<SnapshotResult> {
    return this.channel.call(request).catch((cause: unknown) => {
      throw new SnapshotEvaluationError(`the evaluation failed: ${errorText(cause)}`, { cause });
    });
  }
}

function lowerPriority(pid: number): void {
  try {
    const { PRIORITY_BELOW_NORMAL, PRIORITY_LOW } = os.constants.priority;
    os.setPriority(pid, Math.min(PRIORITY_LOW, os.getPriority() + PRIORITY_BELOW_NORMAL));
  } catch {
    // Not allowed everywhere, and only a courtesy.
  }
}
