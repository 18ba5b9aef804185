import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import os from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { IsoDiffusionError } from '../../errors.ts';
import type {
  EvaluatorAnswer,
  EvaluatorRequest,
  SnapshotResult,
  SnapshotSettings,
} from './evaluation-process.ts';

/** An evaluation during training failed. */
export class SnapshotEvaluationError extends IsoDiffusionError {}

/**
 * Evaluates snapshots in a process of its own, with a lower priority than the training it belongs to: what it computes
 * takes cores only where training leaves them, and no setting or memory of it reaches the training process.
 */
export class SnapshotEvaluator {
  private readonly child: ChildProcess;
  private readonly pending = new Map<number, (answer: EvaluatorAnswer) => void>();
  private nextId = 0;
  private ended: string | undefined;

  private constructor() {
    // A checkout runs its sources, which need tsx; the published package runs its build.
    const isSource = import.meta.url.endsWith('.ts');
    const file = new URL(`./evaluation-process.${isSource ? 'ts' : 'js'}`, import.meta.url);
    const loader = isSource ? pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href : undefined;
    this.child = fork(fileURLToPath(file), {
      execArgv: loader ? ['--import', loader] : [],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.child.on('message', (answer: EvaluatorAnswer) => this.settle(answer));
    this.child.on('error', (error) => this.fail(error.message));
    this.child.on('exit', (code, signal) => this.fail(`its process ended with ${signal ?? `code ${code}`}`));
    if (this.child.pid !== undefined) lowerPriority(this.child.pid);
    this.hold(false);
  }

  /** @throws {SnapshotEvaluationError} when the settings cannot be used, for instance because the extractor's weights are missing. */
  static async start(settings: SnapshotSettings): Promise<SnapshotEvaluator> {
    const evaluator = new SnapshotEvaluator();
    try {
      await evaluator.request({ id: evaluator.nextId++, kind: 'prepare', settings });
    } catch (error) {
      evaluator.stop();
      throw error;
    }
    return evaluator;
  }

  /**
   * @param snapshot a pipeline folder. @param image where to write its samples, without extension.
   * @throws {SnapshotEvaluationError}
   */
  run(snapshot: string, image: string): Promise<SnapshotResult> {
    return this.request({ id: this.nextId++, kind: 'run', snapshot, image });
  }

  /** Ends the process at once; what it is doing is lost. */
  stop(): void {
    this.fail('it was stopped');
    this.child.kill('SIGKILL');
  }

  private async request(request: EvaluatorRequest): Promise<SnapshotResult> {
    if (this.ended) throw new SnapshotEvaluationError(`the evaluation failed: ${this.ended}`);
    const answer = new Promise<EvaluatorAnswer>((resolve) => this.pending.set(request.id, resolve));
    this.hold(true);
    this.child.send(request, (error) => error && this.fail(error.message));
    const { result, error } = await answer;
    if (result) return result;
    throw new SnapshotEvaluationError(`the evaluation failed: ${error}`);
  }

  private settle(answer: EvaluatorAnswer): void {
    this.pending.get(answer.id)?.(answer);
    this.pending.delete(answer.id);
    if (this.pending.size === 0) this.hold(false);
  }

  private fail(reason: string): void {
    this.ended ??= reason;
    for (const [id, resolve] of this.pending) resolve({ id, error: this.ended });
    this.pending.clear();
  }

  /** While there is work, the process keeps this one alive; idle, it ends with it. */
  private hold(busy: boolean): void {
    const change = busy ? 'ref' : 'unref';
    this.child[change]();
    this.child.channel?.[change]();
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
