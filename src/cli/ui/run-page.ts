import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { readEvaluations } from '../../evaluation/callback/evaluation-log.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { readJsonLines } from '../../files/json.ts';
import { CurveRecord } from '../../pages/curve-record.ts';
import { dataUri } from '../../pages/page.ts';
import { type Frame, type RunPage, runPage } from '../../pages/run-page.ts';
import type { LoggedRun, RunLogger, RunOutcome } from '../../trainers/logging/run-logger.ts';
import { METRICS_FILE } from '../../trainers/logging/run-loggers.ts';
import * as z from '../../zod.ts';

/** The page of a run in its folder. */
export const PAGE_FILE = 'run.html';

/** The page is written at most so often, and takes at most this part of the time of the run. */
const MIN_INTERVAL_MS = 5000;
const MOST_OF_THE_TIME = 0.02;
/** Pictures in the film strip; of more, every second, fourth, ... is kept, and the last. */
const MOST_FRAMES = 40;
/** Sides of pictures in pixels: those of the strip, and the newest one. */
const FRAME_SIZE = 288;
const PICTURE_SIZE = 1024;

interface RunPageOptions {
  readonly title: string;
  /** Folders of `EvaluationCallback`s: where the samples and the evaluations are. */
  readonly samples_dir: string | undefined;
  readonly evaluation_dir: string | undefined;
  /** `best.json` of the best model. */
  readonly best_file: string | undefined;
}

/**
 * Writes `run.html` into the run's folder while it trains. It goes by the log files of the folder, so a resumed run shows
 * what was logged before; what is logged later it gets as a logger.
 */
export class RunPageLogger implements RunLogger {
  private readonly curves = new CurveRecord();
  private run: LoggedRun | undefined;
  private at = { step: 0, epoch: 0, steps_per_second: 0 };
  private latest: Readonly<Record<string, number>> = {};
  private changes: { step: number; text: string }[] = [];
  private began = { step: 0, time: 0 };
  private nextWrite = 0;
  /** The encoded pictures of the last page by file, size and time of the last change. */
  private encoded = new Map<string, Promise<string>>();

  constructor(private readonly options: RunPageOptions) {}

  async begin(run: LoggedRun): Promise<void> {
    this.run = run;
    this.began = { step: run.global_step, time: performance.now() };
    this.at = { ...this.at, step: run.global_step };
    if (run.global_step > 0) await this.readLog(path.join(run.output_dir, METRICS_FILE), run.global_step);
    await this.write('training');
  }

  async log(step: number, values: Readonly<Record<string, number>>): Promise<void> {
    this.add(step, values);
    if (performance.now() >= this.nextWrite) await this.write('training');
  }

  note(step: number, changed: readonly { name: string; from: unknown; to: unknown }[]): void {
    this.addChanges(step, Object.fromEntries(changed.map(({ name, from, to }) => [name, { from, to }])));
  }

  logEvaluation(): void {
    this.nextWrite = 0;
  }

  logImage(): void {
    this.nextWrite = 0;
  }

  close(outcome: RunOutcome): Promise<void> {
    return this.write(outcome === 'completed' ? 'done' : outcome);
  }

  private add(step: number, { epoch = 0, steps_per_second = 0, ...values }: Readonly<Record<string, number>>): void {
    this.at = { step, epoch, steps_per_second };
    this.latest = values;
    this.curves.add(step, values);
  }

  private addChanges(step: number, changed: z.output<typeof changeSchema>['changed']): void {
    const texts = Object.entries(changed).map(([name, { from, to }]) => `${name} is ${to} instead of ${from}`);
    this.changes.push({ step, text: texts.join(', ') });
  }

  private async readLog(file: string, upTo: number): Promise<void> {
    for (const line of await readJsonLines(file)) {
      const change = changeSchema.safeParse(line);
      if (change.success) this.addChanges(change.data.step, change.data.changed);
      const record = valuesSchema.safeParse(line);
      if (record.success && record.data.step <= upTo) {
        const { step, ...values } = record.data;
        this.add(step, Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value ?? Number.NaN])));
      }
    }
  }

  private async write(state: RunPage['state']): Promise<void> {
    if (!this.run) return;
    const begun = performance.now();
    const { output_dir, max_steps, settings } = this.run;
    const steps = this.at.step - this.began.step;
    const seconds = (begun - this.began.time) / 1000;
    const { film, picture } = await this.pictures();
    const page = await runPage({
      title: this.options.title,
      state,
      ...this.at,
      max_steps,
      seconds_left: steps > 0 ? (seconds * (max_steps - this.at.step)) / steps : undefined,
      written_at: new Date(),
      latest: this.latest,
      curves: this.curves.curves(),
      ...(await this.evaluations()),
      best: await this.best(),
      picture,
      film,
      settings,
      changes: this.changes,
    });
    await writeFileAtomic(path.join(output_dir, PAGE_FILE), page);
    const took = performance.now() - begun;
    this.nextWrite = performance.now() + Math.max(MIN_INTERVAL_MS, took / MOST_OF_THE_TIME);
  }

  private async evaluations(): Promise<Pick<RunPage, 'evaluations' | 'warnings'>> {
    const { evaluation_dir } = this.options;
    const record = new CurveRecord();
    const all = evaluation_dir === undefined ? [] : await readEvaluations(evaluation_dir);
    for (const { step, values } of all) record.add(step, values);
    return { evaluations: record.curves(), warnings: all.at(-1)?.warnings ?? [] };
  }

  private async best() {
    const { best_file } = this.options;
    const text = best_file && (await readFile(best_file, 'utf8').catch(() => undefined));
    return text ? bestSchema.parse(JSON.parse(text)) : undefined;
  }

  /** The film of the samples that are in the folder, and the newest of them. */
  private async pictures(): Promise<{ film: Frame[]; picture: Frame | undefined }> {
    const { samples_dir } = this.options;
    if (samples_dir === undefined) return { film: [], picture: undefined };
    const all = await samplePictures(samples_dir);
    const stride = 2 ** Math.max(0, Math.ceil(Math.log2(all.length / MOST_FRAMES)));
    const kept = all.filter((_, i) => i % stride === 0 || i === all.length - 1);
    const before = this.encoded;
    this.encoded = new Map();
    const film = await Promise.all(kept.map(({ step, file }) => this.frame(before, step, file, FRAME_SIZE)));
    const last = all.at(-1);
    return {
      film: film.filter((frame) => frame !== undefined),
      picture: last && (await this.frame(before, last.step, last.file, PICTURE_SIZE)),
    };
  }

  /** A picture no larger than `size`; undefined where the file is not there any more. */
  private async frame(
    before: ReadonlyMap<string, Promise<string>>,
    step: number,
    file: string,
    size: number,
  ): Promise<Frame | undefined> {
    const status = await stat(file).catch(() => undefined);
    if (!status) return undefined;
    const key = `${file} ${size} ${status.mtimeMs}`;
    const source = before.get(key) ?? encode(file, size);
    this.encoded.set(key, source);
    return { step, source: await source };
  }
}

/** The pictures that an `EvaluationCallback` drew into a folder, in the order of their steps. */
export async function samplePictures(samplesDir: string): Promise<{ step: number; file: string }[]> {
  const lines = await readJsonLines(path.join(samplesDir, METRICS_FILE));
  return lines.flatMap((line) => {
    const record = samplesSchema.safeParse(line);
    const name = record.data?.files.find((file) => file.endsWith('.png'));
    return record.success && name ? [{ step: record.data.step, file: path.join(samplesDir, path.basename(name)) }] : [];
  });
}

async function encode(file: string, size: number): Promise<string> {
  const { default: sharp } = await import('sharp');
  const webp = await sharp(file)
    .resize({ width: size, height: size, fit: 'inside', withoutEnlargement: true })
    .webp({ quality: 85 })
    .toBuffer();
  return dataUri('image/webp', webp);
}

const step = z.int().check(z.gte(0));
const valuesSchema = z.catchall(z.object({ step }), z.nullable(z.number()));
const changeSchema = z.object({
  step,
  changed: z.record(z.string(), z.object({ from: z.unknown(), to: z.unknown() })),
});
const samplesSchema = z.looseObject({ step, files: z.array(z.string()) });
const bestSchema = z.object({ metric: z.string(), step, value: z.number() });
