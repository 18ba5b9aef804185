// What one of several processes found of an evaluation, as one file or as bytes between ranks.

import { FileFormatError } from '../../errors.ts';
import { parseJson } from '../../files/json.ts';
import { type NamedTensor, parseSafetensors, safetensorsChunks } from '../../files/safetensors.ts';
import { concatenated } from '../../graph/types.ts';
import type { GaussianStatistics } from '../../metrics/frechet/statistics.ts';
import * as z from '../../zod.ts';
import type { Share } from '../image-sources.ts';

/** A file of a share of an evaluation is missing, damaged, or does not fit the others. */
export class EvaluationPartError extends FileFormatError {
  static override readonly name: string = 'EvaluationPartError';
}

const count = z.int().check(z.gte(0));
const option = z.union([z.number(), z.string(), z.boolean()]);
const evaluatedSet = z.strictObject({
  name: z.string(),
  count: z.optional(count),
  skipped: z.optional(z.array(z.strictObject({ source: z.string(), reason: z.string() }))),
});
const extractor = z.strictObject({ name: z.string(), checksum: z.string(), dims: z.int().check(z.gte(1)) });
const recordSchema = z.strictObject({
  version: z.literal(1),
  /** The i-th, from 1, of n. */
  share: z.readonly(z.tuple([z.int().check(z.gte(1)), z.int().check(z.gte(1), z.lte(65_536))])),
  /** Whether statistics were of all images already, from a file or the cache, by role and number of the extractor. */
  whole: z.array(z.string()),
  /** What all parts of an evaluation have alike. */
  of: z.strictObject({
    metrics: z.array(z.strictObject({ name: z.string(), options: z.record(z.string(), option) })),
    seed: count,
    real: evaluatedSet,
    fake: evaluatedSet,
    /** What decides which images are drawn or read; empty where it is not known. */
    images: z.record(z.enum(['real', 'fake']), z.string()),
    extractors: z.array(extractor).check(z.minLength(1)),
    /** The number of the extractor of each metric that is defined for one. */
    own: z.record(z.string(), count),
    logits: z.optional(extractor),
    caveat: z.optional(z.string()),
  }),
});

/** What was compared, and by what. */
export type PartRecord = z.output<typeof recordSchema>;

/** What a share has of a side by one extractor; the logits are by an extractor of their own. */
export interface PartForms {
  readonly statistics?: GaussianStatistics | undefined;
  /** Row-major, the features of the images of the share in their order. */
  readonly features?: Float32Array | undefined;
}

/** What one process found: nothing of a form that no metric needs. */
export interface EvaluationPart {
  readonly record: PartRecord;
  /** By `formKey`. */
  readonly forms: ReadonlyMap<string, PartForms>;
}

export type Role = 'real' | 'fake';

/** The key of what was found of a side. @param extractor its number, or that of the logits. */
export const formKey = (role: Role, extractor: number | 'logits') => `${role}.${extractor}`;

const RECORD = 'evaluation_part';

/** The part as a safetensors file, in pieces. */
export function partChunks({ record, forms }: EvaluationPart): Iterable<Uint8Array> {
  const tensors = new Map<string, NamedTensor>();
  for (const [key, { statistics, features }] of forms) {
    if (statistics) {
      const { dims, mu, sigma, count: rows } = statistics;
      tensors.set(`${key}.mu`, { dtype: 'F64', shape: [dims], data: mu });
      tensors.set(`${key}.sigma`, { dtype: 'F64', shape: [dims, dims], data: sigma });
      if (rows !== undefined) tensors.set(`${key}.count`, { dtype: 'F64', shape: [1], data: Float64Array.of(rows) });
    }
    if (features) tensors.set(`${key}.features`, { dtype: 'F32', shape: [features.length], data: features });
  }
  return safetensorsChunks(tensors, { [RECORD]: JSON.stringify(record) });
}

/** The part as one array of bytes. */
export function partBytes(part: EvaluationPart): Uint8Array {
  return concatenated([...partChunks(part)]);
}

/** @param where names the bytes in errors. @throws {EvaluationPartError} when they are not a part, or damaged. */
export async function parsePart(bytes: Uint8Array, where: string): Promise<EvaluationPart> {
  const { tensors, metadata } = await parseSafetensors(bytes, where);
  const text = metadata.get(RECORD);
  if (text === undefined)
    throw new EvaluationPartError(
      `${where} is not a share of an evaluation: write it with iso-diffusion evaluate --share i/n --out`,
    );
  const record = parseJson(new TextEncoder().encode(text), recordSchema, `the record of ${where}`);
  const forms = new Map<string, PartForms>();
  const values = <Data extends Float32Array | Float64Array>(name: string, Class: { new (length: number): Data }) => {
    const data = tensors.get(name)?.data;
    if (data === undefined) return undefined;
    if (data instanceof Class) return data;
    throw new EvaluationPartError(`${where}: ${name} does not hold numbers of the right type`);
  };
  const { extractors, logits } = record.of;
  for (const role of ['real', 'fake'] as const)
    for (const [index, { dims }] of [...extractors.entries(), ...(logits ? [['logits', logits] as const] : [])]) {
      const key = formKey(role, index);
      const [mu, sigma] = [values(`${key}.mu`, Float64Array), values(`${key}.sigma`, Float64Array)];
      const rows = values(`${key}.count`, Float64Array)?.[0];
      const features = values(`${key}.features`, Float32Array);
      const fits = (mu?.length ?? dims) === dims && (sigma?.length ?? dims * dims) === dims * dims;
      if (!fits || (features && features.length % dims !== 0))
        throw new EvaluationPartError(`${where}: ${key} does not have the ${dims} dimensions of its extractor`);
      forms.set(key, { statistics: mu && sigma && { dims, mu, sigma, count: rows }, features });
    }
  return { record, forms };
}

/** What a share is called in messages. */
export const shareText = ([index, shares]: Share) => `${index}/${shares}`;
