/**
 * `npx tsx scripts/samplers/inversion.ts [folder]`: inverts 64 training digits, draws them again, writes the table and the plot of
 * docs/editing.md, and fails where the mean absolute error on [-1, 1] is above 0.05 with 50 steps there and 50 back, or above 0.02
 * with 200. Without the folder of a pipeline it trains the model of docs/samplers.md.
 */
import { RawImage } from '@huggingface/transformers';
import { loadImages } from '../../src/datasets/index.ts';
import { markdownTable } from '../../src/experiments/text.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { curvePlot, svgToPng } from '../../src/plots/index.ts';
import { DDIMScheduler } from '../../src/schedulers/index.ts';
import { documentPath, writeSection } from './document.ts';
import { trainedDigits } from './models.ts';

const COUNT = 64;
/** Every 25th digit. */
const STRIDE = 25;
const STEPS = [10, 20, 50, 100, 200];
const LIMITS: Readonly<Record<number, number>> = { 50: 0.05, 200: 0.02 };

const folder = process.argv[2] ?? (await trainedDigits('runs/samplers'));
const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
const set = await loadImages('digits', { resolution: 8, channels: 1 });
const images = Array.from({ length: COUNT }, (_, i) => new RawImage(set.pixels(i * STRIDE).slice(), 8, 8, 1));
const pixels = images.flatMap(({ data }) => [...data]);
const scheduler = DDIMScheduler.fromConfig({ ...generate.scheduler.toConfig(), clip_sample: false });

const errors: number[] = [];
for (const num_inference_steps of STEPS) {
  const latents = await generate.invert(images, { num_inference_steps });
  const call = { latents, scheduler, num_inference_steps, batch_size: COUNT } as const;
  const { data } = await generate({ ...call, output_type: 'tensor' });
  const error = pixels.reduce((sum, byte, i) => sum + Math.abs(2 * Number(data[i]) - byte / 127.5), 0) / pixels.length;
  console.log(`${num_inference_steps} + ${num_inference_steps} steps: ${error.toFixed(4)}`);
  errors.push(error);
}
await generate.dispose();

const header = ['steps there and back', ...STEPS.map((steps) => `${steps} + ${steps}`)];
const table = markdownTable(header, [['error', ...errors.map((error) => error.toFixed(4))]]);
await writeSection('editing.md', 'inversion of digits', table);
const svg = await curvePlot({
  title: 'Digits inverted and drawn again',
  x_label: 'steps there, and as many back',
  y_label: 'mean absolute error on [-1, 1]',
  log_x: true,
  log_y: true,
  series: [{ name: 'DDIM', x: STEPS, y: errors }],
});
await writeFileAtomic(documentPath('images/inversion-digits.png'), await svgToPng(svg));

const wrong = STEPS.filter((steps, i) => {
  const falls = i === 0 || (errors[i] as number) < (errors[i - 1] as number);
  return !falls || (errors[i] as number) > (LIMITS[steps] ?? Number.POSITIVE_INFINITY);
});
if (wrong.length > 0) {
  console.error(`the error does not fall, or is above its limit, with ${wrong.join(' and ')} steps`);
  process.exitCode = 1;
}
