import { type JobTiming, readTiming, writeTiming } from './job.ts';

/** Measures a job over all its attempts: the processor time of this process, and the wall time. */
export class JobClock {
  private readonly wallStart = performance.now();
  private readonly cpuStart = process.cpuUsage();

  private constructor(
    private readonly folder: string,
    private readonly before: JobTiming,
  ) {}

  /** Goes on from what earlier attempts saved. */
  static async start(folder: string): Promise<JobClock> {
    return new JobClock(folder, await readTiming(folder));
  }

  elapsed(): JobTiming {
    const { user, system } = process.cpuUsage(this.cpuStart);
    return {
      wall_seconds: this.before.wall_seconds + (performance.now() - this.wallStart) / 1000,
      cpu_seconds: this.before.cpu_seconds + (user + system) / 1e6,
    };
  }

  /** Keeps the time so far for a later attempt. */
  save(): Promise<void> {
    return writeTiming(this.folder, this.elapsed());
  }
}
