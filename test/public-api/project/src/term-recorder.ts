// A callback: keeps what is logged.
import type { StepMetrics, TrainerCallback, TrainerState } from 'iso-diffusion';

export class TermRecorder implements TrainerCallback {
  readonly reports: StepMetrics[] = [];
  steps = 0;

  onStep({ global_step }: TrainerState, report: StepMetrics): void {
    this.steps = global_step;
    this.reports.push(report);
  }
}
