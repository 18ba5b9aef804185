import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { curvePlot, writePlot } from '../../plots/index.ts';
import { METRICS_FILE } from '../../trainers/logging/run-loggers.ts';

const recordSchema = z.object({
  step: z.number(),
  loss: z.number(),
  base_loss: z.number(),
  isotropy: z.number(),
});

/** Draws the loss and isotropy curves of a run from its log, the part before a resumption included. */
export async function writeTrainingPlots(outputDir: string, title: string): Promise<string[]> {
  const lines = (await readFile(path.join(outputDir, METRICS_FILE), 'utf8')).split('\n').filter(Boolean);
  const records = lines.flatMap((line) => {
    const parsed = recordSchema.safeParse(JSON.parse(line));
    return parsed.success ? [parsed.data] : [];
  });
  if (records.length === 0) return [];
  const x = records.map(({ step }) => step);
  const losses = await curvePlot({
    series: [
      { name: 'loss', x, y: records.map(({ loss }) => loss) },
      { name: 'without penalty', x, y: records.map(({ base_loss }) => base_loss) },
    ],
    title: `${title}: loss`,
    x_label: 'step',
    y_label: 'loss',
  });
  const isotropy = await curvePlot({
    series: [{ name: 'predicted noise', x, y: records.map((record) => record.isotropy) }],
    title: `${title}: isotropy of the predicted noise`,
    x_label: 'step',
    y_label: 'squared norm per element',
  });
  return [
    ...(await writePlot(path.join(outputDir, 'loss'), losses)),
    ...(await writePlot(path.join(outputDir, 'isotropy'), isotropy)),
  ];
}
