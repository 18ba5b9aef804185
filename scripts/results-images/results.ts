// What a study found: `docs/results-images.json`, from which the report is written.
import { isDeepStrictEqual } from 'node:util';
import { ConfigError } from '../../src/errors.ts';
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

/** What the models of a set must share. The extractor is null until it was used. */
const SHARED = ['images', 'shape', 'fingerprint', 'settings', 'parameters', 'extractor'] as const;
type SharedResults = Pick<SetResults, 'name'> & Partial<Pick<SetResults, (typeof SHARED)[number]>>;

/**
 * The results of all sets, in the order of the study: the new ones, and those that the file has of other models.
 *
 * @param file may be missing.
 * @throws {ConfigError} as {@link requireSameWay} does.
 */
export async function mergedResults(file: string, found: readonly SetResults[]): Promise<SetResults[]> {
  const kept = await keptResults(file);
  refuseAnotherWay(file, kept, found);
  return SETS.flatMap(({ name }) => {
    const now = found.find((set) => set.name === name);
    const before = kept.find((set) => set.name === name);
    if (!now) return before ?? [];
    const models = mergedModels(now.models, before?.models ?? []);
    return { ...now, extractor: now.extractor ?? before?.extractor ?? null, models };
  });
}

/**
 * Asks of a study, before it begins, that its models can stand beside those that the file has.
 *
 * @param file may be missing.
 * @param study as far as it is known.
 * @throws {ConfigError} when the file is there and is not such a file, or has models of the same set that were made in another
 *   way.
 */
export async function requireSameWay(file: string, study: readonly SharedResults[]): Promise<void> {
  refuseAnotherWay(file, await keptResults(file), study);
}

function refuseAnotherWay(file: string, kept: readonly SetResults[], study: readonly SharedResults[]): void {
  for (const now of study) {
    const before = kept.find((set) => set.name === now.name);
    const key = before && SHARED.find((one) => differs(before[one], now[one]));
    if (key)
      throw new ConfigError(
        `${file} has models of '${now.name}' that were made in another way (${key}: ${JSON.stringify(before[key])} there, ` +
          `${JSON.stringify(now[key])} now). Choose another --report, or take '${now.name}' out of that file.`,
      );
  }
}

function differs(before: unknown, now: unknown): boolean {
  return (before ?? null) !== null && (now ?? null) !== null && !isDeepStrictEqual(before, now);
}

async function keptResults(file: string): Promise<SetResults[]> {
  if (!(await exists(file))) return [];
  const { sets } = await readJsonFile(file, fileSchema);
  return sets.map(({ changes: _, ...set }) => set);
}

/** By weight and seed. */
function mergedModels(now: readonly ModelResult[], before: readonly ModelResult[]): ModelResult[] {
  const isNew = ({ lambda, seed }: ModelResult) => now.some((model) => model.lambda === lambda && model.seed === seed);
  return [...now, ...before.filter((model) => !isNew(model))].sort((a, b) => a.lambda - b.lambda || a.seed - b.seed);
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
