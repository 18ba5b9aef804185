import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { METRICS_FILE } from '../trainers/logging/run-loggers.ts';
import type { TrainingCurve } from './job.ts';

const recordSchema = z.object({ step: z.int(), base_loss: z.number(), isotropy: z.number() });

/** The curves of a run from its log, the part before a resumption included. */
export async function readTrainingCurve(outputDir: string): Promise<TrainingCurve> {
  const lines = (await readFile(path.join(outputDir, METRICS_FILE), 'utf8')).split('\n').filter(Boolean);
  const records = lines.map((line) => recordSchema.parse(JSON.parse(line)));
  return {
    step: records.map(({ step }) => step),
    base_loss: records.map(({ base_loss }) => base_loss),
    isotropy: records.map(({ isotropy }) => isotropy),
  };
}
