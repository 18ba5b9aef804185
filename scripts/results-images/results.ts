// What a study found: `docs/results-images.json`, from which the report is written.
import { isDeepStrictEqual } from 'node:util';
import { readJsonFile } from '../../src/files/json.ts';
import { exists } from '../../src/files/regular-file.ts';
import * as z from '../../src/zod.ts';
import { changesOf, verdictOf } from './changes.ts';
import { copiesSchema } from './copies.ts';
import { extractorSchema, metricsSchema } from './measure.ts';
import { curveSchema, environmentSchema, LAMBDAS, SETS, settingsSchema } from './study.ts';

const finite = z.number().check(z.refine(Number.isFinite));
const count = z.int().check(z.gte(0));

const modelSchema = z.strictObject({
  lambda: finite,
  seed: z.int(),
  samples: count,
  isotropy: finite,
  /** Null for a model that is trained and not measured yet. */
  metrics: z.nullable(metricsSchema),
  /** Of the first seed alone. */
  copies: z.nullable(copiesSchema),
  curve: curveSchema,
  environment: environmentSchema,
  /** Of the training and the drawing; null for models that were trained before this was kept. */
  cpu_seconds: z.nullable(finite),
});
/** What was found of one model. */
export type ModelResult = z.output<typeof modelSchema>;

const setSchema = z.strictObject({
  name: z.enum(SETS.map(({ name }) => name)),
  images: count,
  /** [height, width, channels] */
  shape: z.array(count).check(z.length(3)),
  fingerprint: z.string(),
  extractor: z.nullable(extractorSchema),
  settings: settingsSchema,
  parameters: count,
  models: z.array(modelSchema).check(z.minLength(1)),
});
/** What was found of one set. Models of a weight are side by side, by seed. */
export type SetResults = z.output<typeof setSchema>;

const fileSchema = z.strictObject({
  lambdas: z.array(finite),
  // The changes follow from the models.
  sets: z.array(z.extend(setSchema, { changes: z.array(z.unknown()) })),
});

/**
 * The results of all sets, in the order of the study: the new ones, and those that the file has of other models.
 *
 * @param file may be missing.
 * @throws {ConfigError} when it is there and is not such a file.
 */
export async function mergedResults(file: string, found: readonly SetResults[]): Promise<SetResults[]> {
  const kept = (await exists(file)) ? (await readJsonFile(file, fileSchema)).sets : [];
  return SETS.flatMap(({ name }) => {
    const now = found.find((set) => set.name === name);
    const before = kept.filter((set) => set.name === name).map(({ changes: _, ...set }) => set);
    return now ? [{ ...now, models: mergedModels(now, before) }] : before;
  });
}

/** By weight and seed. Models that were made in another way are not of the same study. */
function mergedModels(now: SetResults, before: readonly SetResults[]): ModelResult[] {
  const wayOf = ({ models: _, ...way }: SetResults) => way;
  const isNew = ({ lambda, seed }: ModelResult) =>
    now.models.some((model) => model.lambda === lambda && model.seed === seed);
  const others = before.filter((set) => isDeepStrictEqual(wayOf(set), wayOf(now))).flatMap(({ models }) => models);
  return [...now.models, ...others.filter((model) => !isNew(model))].sort(
    (a, b) => a.lambda - b.lambda || a.seed - b.seed,
  );
}

/** What the file has: the results, and the changes with the weight. */
export function resultsJson(sets: readonly SetResults[]) {
  return {
    lambdas: LAMBDAS,
    sets: sets.map((set) => ({
      ...set,
      changes: changesOf(set.models).map((change) => ({
        lambda: change.lambda,
        metric: change.metric,
        pairs: change.differences.length,
        differences: [...change.differences],
        mean: change.spread.mean,
        low: change.interval?.[0] ?? null,
        high: change.interval?.[1] ?? null,
        verdict: verdictOf(change),
      })),
    })),
  };
}
