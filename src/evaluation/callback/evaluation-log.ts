import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { FileFormatError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { readJsonLines } from '../../files/json.ts';
import * as z from '../../zod.ts';

/** In the folder of an `EvaluationCallback`: a line for each evaluation. */
export const LOG_FILE = 'metrics.jsonl';

const recordSchema = z.looseObject({ step: z.int().check(z.gte(0)), epoch: z.number(), files: z.array(z.string()) });

/**
 * One evaluation of a run: its step, the images it wrote, and the metrics by name; with metrics also the `extractor`, the
 * number of `samples`, and `warnings`, what the values must not be taken for, where there are any.
 */
export type EvaluationRecord = z.infer<typeof recordSchema>;

const measuredSchema = z.looseObject({
  step: z.int().check(z.gte(0)),
  epoch: z.number(),
  samples: z.optional(z.number()),
  extractor: z.optional(z.object({ name: z.string() })),
  warnings: z._default(z.array(z.string()), []),
});

/** What an evaluation measured. */
export interface StoredEvaluation {
  readonly step: number;
  /** Undefined where there were no metrics. */
  readonly samples: number | undefined;
  /** The extractor's name; undefined where there were no metrics. */
  readonly extractor: string | undefined;
  readonly warnings: readonly string[];
  /** Metrics by name. */
  readonly values: Readonly<Record<string, number>>;
}

/** The evaluations that an `EvaluationCallback` wrote into a folder, in their order, without damaged lines. */
export async function readEvaluations(directory: string): Promise<StoredEvaluation[]> {
  const lines = await readJsonLines(path.join(directory, LOG_FILE));
  return lines.flatMap((line) => {
    const record = measuredSchema.safeParse(line);
    if (!record.success) return [];
    const { step, epoch: _, samples, extractor, warnings, ...others } = record.data;
    const numbers = Object.entries(others).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
    return [{ step, samples, extractor: extractor?.name, warnings, values: Object.fromEntries(numbers) }];
  });
}

/** The evaluations of a run as JSON lines in the order of their steps. Every line is whole, also after a kill. */
export class EvaluationLog {
  private constructor(
    private readonly file: string,
    private readonly records: Map<number, EvaluationRecord>,
  ) {}

  /**
   * @param upTo the step a run goes on from: what was logged after it is dropped; 0 starts an empty log.
   * @throws {FileFormatError} when the file is not such a log; it stays as it is.
   */
  static async open(file: string, upTo: number): Promise<EvaluationLog> {
    const text = upTo === 0 ? '' : await readFile(file, 'utf8').catch(() => '');
    const records = text
      .split('\n')
      .flatMap((line, i) => (line === '' ? [] : [parsed(line, `${file}, line ${i + 1}`)]));
    const kept = records.filter(({ step }) => step <= upTo);
    return new EvaluationLog(file, new Map(kept.map((record) => [record.step, record])));
  }

  find(step: number): EvaluationRecord | undefined {
    return this.records.get(step);
  }

  async add(record: EvaluationRecord): Promise<void> {
    this.records.set(record.step, record);
    const ordered = [...this.records.values()].sort((a, b) => a.step - b.step);
    await writeFileAtomic(this.file, ordered.map((one) => `${JSON.stringify(one)}\n`).join(''));
  }
}

function parsed(line: string, where: string): EvaluationRecord {
  try {
    return recordSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new FileFormatError(`${where} is not a record of an evaluation. Move the file away`, { cause });
  }
}
