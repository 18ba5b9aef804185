import path from 'node:path';
import { world } from '#distributed/world';
import { loadPoints, writeCsvPoints, writeNpyPoints } from '../../../datasets/index.ts';
import { InvalidArgumentError } from '../../../errors.ts';
import { writeFileAtomic } from '../../../files/atomic.ts';
import { pipeline } from '../../../pipelines/pipeline.ts';
import { type PlotPoints, scatterPlot, svgToPng } from '../../../plots/index.ts';
import * as z from '../../../zod.ts';
import { grouped, option, type Settings } from '../../options/command-options.ts';
import { refuseUnusedEta, type SamplingSettings, samplingCall } from '../../options/shared-options.ts';
import { withProgress } from '../../ui/progress.ts';

export const pointOptions = grouped('Points:', {
  real: option('--real <name|file>', z.optional(z.string()), 'real points to plot under the generated ones'),
});

const FORMATS = ['.csv', '.npy', '.svg', '.png'];

/** Draws points and writes them to each file. Returns a sentence that says what was written. */
export async function generatePoints(
  folder: string,
  settings: SamplingSettings & Settings<typeof pointOptions>,
): Promise<string> {
  const { n = 10_000, scheduler, eta, device, dtype, real, out = ['points.csv'] } = settings;
  for (const file of out)
    if (!FORMATS.includes(path.extname(file).toLowerCase()))
      throw new InvalidArgumentError(`--out '${file}' must end in ${FORMATS.join(', ')} for points`);
  if (world().rank > 0) return '';
  const draw = await pipeline('unconditional-point-generation', folder, { device, dtype, scheduler });
  try {
    refuseUnusedEta(eta, draw.scheduler);
    const [from, to] = settings.interpolate ?? [];
    const { points, dims } = await withProgress('generate', (watch) => {
      const options = { ...samplingCall(settings), ...watch };
      if (from !== undefined && to !== undefined) return draw.interpolate(from, to, n, options);
      return draw({ batch_size: n, ...options });
    });
    const { columns } = draw;
    for (const file of out) await writePoints(file, { data: points, count: dims[0], dims: dims[1], columns }, real);
    return `${dims[0]} points of ${dims[1]} dimensions: ${out.join(', ')}`;
  } finally {
    await draw.dispose();
  }
}

async function writePoints(file: string, fake: PlotPoints, real: string | undefined): Promise<void> {
  const extension = path.extname(file).toLowerCase();
  if (extension === '.csv') return writeCsvPoints(file, fake.data, fake.dims, fake.columns);
  if (extension === '.npy') return writeNpyPoints(file, fake.data, fake.dims);
  const beneath = real === undefined ? undefined : await loadPoints(real, { scaling: 'none' });
  const svg = await scatterPlot({ real: beneath, fake, title: `${fake.count} generated points` });
  await writeFileAtomic(file, extension === '.svg' ? svg : await svgToPng(svg));
}
