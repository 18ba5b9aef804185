/**
 * `npx tsx scripts/half-precision.ts [--device cpu] [--steps 400] [--seeds 3]`: trains a small U-Net on the digits in float32
 * and in float16 from the same seeds, and writes docs/images/half-precision.png and a section of docs/mixed-precision.md.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { imageModel } from '../src/experiments/jobs/image-sets.ts';
import { markdownTable } from '../src/experiments/text.ts';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { DDPMScheduler, isoLoss, loadImages, Trainer } from '../src/index.ts';
import { curvePlot, svgToPng } from '../src/plots/index.ts';
import { documentPath, writeSection } from './samplers/document.ts';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    steps: { type: 'string', default: '400' },
    seeds: { type: 'string', default: '3' },
  },
});
const steps = Number(values.steps);
/** Steps of one point of a curve. */
const WINDOW = 10;
const PRECISIONS = { float32: 'no', float16: 'fp16' } as const;
type Precision = keyof typeof PRECISIONS;

interface Curve {
  readonly precision: Precision;
  readonly seed: number;
  readonly step: readonly number[];
  readonly loss: readonly number[];
  readonly skipped: number;
}

const digits = await loadImages('digits');
const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-half-'));
const curves: Curve[] = [];
for (let seed = 0; seed < Number(values.seeds); seed++)
  for (const precision of Object.keys(PRECISIONS) as Precision[]) {
    const curve = await train(precision, seed);
    console.log(`${precision}, seed ${seed}: ${tail(curve).toFixed(4)} at the end, ${curve.skipped} steps skipped`);
    curves.push(curve);
  }
await rm(folder, { recursive: true, force: true });
await writeSection('mixed-precision.md', 'half-precision', await report());

async function train(precision: Precision, seed: number): Promise<Curve> {
  const output_dir = path.join(folder, `${precision}-${seed}`);
  const trainer = new Trainer({
    model: imageModel('tiny', digits),
    args: {
      output_dir,
      max_steps: steps,
      per_device_train_batch_size: 64,
      learning_rate: 1e-3,
      max_grad_norm: 1,
      seed,
      mixed_precision: PRECISIONS[precision],
      logging_steps: WINDOW,
      report_to: ['jsonl'],
      device: values.device === 'cuda' ? 'cuda' : 'cpu',
    },
    train_dataset: digits,
    loss: isoLoss({ lambda: 0.05 }),
    noise_scheduler: new DDPMScheduler(),
  });
  await trainer.train();
  const lines = (await readFile(path.join(output_dir, 'metrics.jsonl'), 'utf8')).trim().split('\n');
  const records = lines.map((line): { step: number; loss: number; skipped_steps?: number } => JSON.parse(line));
  return {
    precision,
    seed,
    step: records.map(({ step }) => step),
    loss: records.map(({ loss }) => loss),
    skipped: records.at(-1)?.skipped_steps ?? 0,
  };
}

/** The mean loss of the last quarter of a run. */
function tail({ loss }: Curve): number {
  const last = loss.slice(Math.floor(loss.length * 0.75));
  return last.reduce((sum, value) => sum + value, 0) / last.length;
}

async function report(): Promise<string> {
  const svg = await curvePlot({
    series: curves.map(({ precision, seed, step, loss }) => ({
      name: `${precision}, seed ${seed}`,
      x: step,
      y: loss,
    })),
    title: 'The digits in float32 and in float16',
    x_label: 'step',
    y_label: 'loss',
    log_y: true,
  });
  await writeFileAtomic(documentPath('images/half-precision.png'), await svgToPng(svg));
  const of = (precision: Precision) => curves.filter((curve) => curve.precision === precision);
  const rows = of('float32').map((exact) => {
    const half = of('float16').find(({ seed }) => seed === exact.seed);
    if (!half) throw new Error(`seed ${exact.seed} was not trained in float16`);
    const largest = Math.max(...exact.loss.map((loss, i) => Math.abs((half.loss[i] ?? Number.NaN) / loss - 1)));
    const ends = [tail(exact), tail(half)].map((loss) => loss.toFixed(4));
    return [String(exact.seed), ...ends, `${(100 * largest).toFixed(1)} %`, String(half.skipped)];
  });
  const finals = of('float32').map(tail);
  const spread = Math.max(...finals) / Math.min(...finals) - 1;
  return [
    markdownTable(
      ['seed', 'loss in float32', 'loss in float16', 'largest difference of a point', 'steps skipped'],
      rows,
    ),
    '',
    `Losses are means over the last quarter of ${steps} steps of 64 images on the ${values.device}. A point of the curve is the mean of`,
    `${WINDOW} steps. Between the seeds, the losses in float32 differ by up to ${(100 * spread).toFixed(1)} %.`,
    '',
    '![Loss curves of three seeds: those of float32 lie hidden under those of float16](images/half-precision.png)',
  ].join('\n');
}
