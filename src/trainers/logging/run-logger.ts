import type { SettingChange } from '../checkpoint/run-identity.ts';

/** What a run is, for logs that show it. */
export interface LoggedRun {
  /** The folder of the run. */
  readonly output_dir: string;
  /** The step the run goes on from; 0 for a fresh one. */
  readonly global_step: number;
  /** Steps of the whole run. */
  readonly max_steps: number;
  /**
   * What decides the numbers of the run, one entry for each value: 'learning_rate', 'loss.lambda', 'model.hidden_features',
   * 'dataset', 'dataset_sha256'. A list is its JSON text.
   */
  readonly settings: Readonly<Record<string, string | number | boolean>>;
}

/** How a run ended: at its last step, before it because it was interrupted, or by an error. */
export type RunOutcome = 'completed' | 'interrupted' | 'failed';

/**
 * Receives what a training run reports. The log files of this package are such loggers, and `TrainerOptions.loggers` takes
 * more of them, for instance for a tracking service. Methods may be async and are awaited; an error from one ends the run.
 *
 * A run that is resumed begins anew at its checkpoint: steps that an earlier process has logged after it come again.
 *
 * @example
 * const tracking: RunLogger = {
 *   begin: ({ output_dir, settings }) => void client.init({ name: output_dir, config: settings }),
 *   log: (step, values) => client.log(values, { step }),
 *   close: (outcome) => client.finish(outcome === 'failed' ? 1 : 0),
 * };
 */
export interface RunLogger {
  /** Before the first step, and before all other calls. */
  begin?(run: LoggedRun): void | Promise<void>;
  /**
   * Every `logging_steps` steps, in their order.
   *
   * @param step how many optimizer steps are done.
   * @param values by name: what `StepMetrics` has, `epoch` and `steps_per_second`. NaN and infinities can be among them.
   */
  log(step: number, values: Readonly<Record<string, number>>): void | Promise<void>;
  /**
   * Metrics of the model of a step, as `EvaluationCallback` measures them beside the training: `step` may lie before the
   * last one of `log`.
   */
  logEvaluation?(step: number, values: Readonly<Record<string, number>>): void | Promise<void>;
  /**
   * Samples of the model of a step, which may lie before the last one of `log`.
   *
   * @param name what the picture shows, such as 'samples'. @param png the bytes of a PNG file.
   */
  logImage?(step: number, name: string, png: Uint8Array): void | Promise<void>;
  /** The steps from `step` on are taken with other settings, after a resumption or `Trainer.change`. */
  note?(step: number, changes: readonly SettingChange[]): void | Promise<void>;
  /** Once, after all other calls. */
  close?(outcome: RunOutcome): void | Promise<void>;
}

/** Several loggers as one. */
export type RunLoggers = Required<RunLogger>;
