import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { FileFormatError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';

const recordSchema = z.looseObject({
  step: z.int().min(0),
  epoch: z.number(),
  files: z.array(z.string()),
});

/** One evaluation of a run: its step, the images it wrote, and the metrics by name. */
export type EvaluationRecord = z.infer<typeof recordSchema>;

/** The evaluations of a run as JSON lines in the order of their steps. Every line is whole, also after a kill. */
export class EvaluationLog {
  private constructor(
    private readonly file: string,
    private readonly records: Map<number, EvaluationRecord>,
  ) {}

  /**
   * @param upTo the step a run goes on from: what was logged after it is dropped; 0 starts an empty log.
   * @throws {FileFormatError} when the file to go on with is no such log; it stays as it is.
   */
  static async open(file: string, upTo: number): Promise<EvaluationLog> {
    const text = upTo === 0 ? '' : await readFile(file, 'utf8').catch(() => '');
    const records = text
      .split('\n')
      .flatMap((line, i) => (line === '' ? [] : [parsed(line, `${file}, line ${i + 1}`)]));
    const kept = records.filter(({ step }) => step <= upTo);
    return new EvaluationLog(file, new Map(kept.map((record) => [record.step, record])));
  }

  has(step: number): boolean {
    return this.records.has(step);
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
    throw new FileFormatError(`${where} is no record of an evaluation. Move the file away`, { cause });
  }
}
