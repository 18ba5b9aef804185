import { rename } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { replaceDirectory, restoreInterrupted, writeFileAtomic } from '../../files/atomic.ts';
import { readJsonFile, stringifySorted } from '../../files/json.ts';
import { exists, freePath } from '../../files/regular-file.ts';
import { metrics } from '../../metrics/registry.ts';
import * as z from '../../zod.ts';

/** In the folder of the best model: what it is. */
const BEST_FILE = 'best.json';

const bestSchema = z.object({ metric: z.string(), step: z.int().check(z.gte(0)), value: z.number() });

/** The snapshot of a run that was the best so far, in a pipeline folder of its own. */
export class BestSnapshot {
  private constructor(
    private readonly directory: string,
    private readonly metric: string,
    private readonly better: 'higher' | 'lower',
    private value: number | undefined,
  ) {}

  /**
   * What another run left in the folder is kept under the next free name. A resumed one goes on with the best that there
   * is, even where it is of a step that comes again: the same steps give the same values.
   *
   * @param metric the value of the report to go by. @param chosen the metrics that are computed.
   * @param step the step the run goes on from; 0 for a fresh one.
   * @throws {InvalidArgumentError} when no metric says whether a higher or a lower value is better.
   */
  static async open(directory: string, metric: string, chosen: readonly string[], step: number): Promise<BestSnapshot> {
    const directions = Object.assign({}, ...chosen.map((name) => metrics.find(name)?.better));
    const better: 'higher' | 'lower' | undefined = Object.hasOwn(directions, metric) ? directions[metric] : undefined;
    if (better === undefined)
      throw new InvalidArgumentError(
        `keep_best is '${metric}', but the metrics ${chosen.join(', ')} give ${Object.keys(directions).join(', ') || 'no value that is better or worse'}: choose one of these values, or further metrics`,
      );
    await restoreInterrupted(directory);
    const file = path.join(directory, BEST_FILE);
    const isOwn = step > 0 && (await exists(file));
    if (!isOwn && (await exists(directory))) await rename(directory, await freePath(directory));
    const before = isOwn ? await readJsonFile(file, bestSchema) : undefined;
    return new BestSnapshot(directory, metric, better, before?.metric === metric ? before.value : undefined);
  }

  /**
   * Puts a snapshot in the place of the best one where it is better; the folder holds the old or the new one whole.
   *
   * @param snapshot a pipeline folder, which is moved. @param record the evaluation of it.
   */
  async offer(snapshot: string, record: { readonly step: number; readonly [name: string]: unknown }): Promise<void> {
    const { [this.metric]: value } = record;
    if (typeof value !== 'number' || !Number.isFinite(value)) return;
    const { value: best } = this;
    if (best !== undefined && !(this.better === 'higher' ? value > best : value < best)) return;
    await writeFileAtomic(
      path.join(snapshot, BEST_FILE),
      stringifySorted({ metric: this.metric, step: record.step, value }),
    );
    await replaceDirectory(snapshot, this.directory);
    this.value = value;
  }
}
