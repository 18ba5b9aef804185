import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RunPageLogger } from '../../src/cli/ui/run-page.ts';
import { CurveRecord } from '../../src/pages/curve-record.ts';
import type { ChildOutput } from '../child-output.ts';
import { runCli } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-watch-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (...names: string[]) => path.join(folder, ...names);
const read = (...names: string[]) => readFileSync(file(...names));

/** A page as a reader finds it: its pictures, what it asks for, and whether it loads itself again. */
function pageOf(text: string) {
  const sources = [...text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, source = '']) => source);
  const [, strip = ''] = /<div class="strip">([\s\S]*?)<\/div>/.exec(text) ?? [];
  return {
    badge: /<em class="badge">(\w+)</.exec(text)?.[1],
    asksOthers:
      sources.some((source) => !source.startsWith('data:')) ||
      /url\(|@import|fetch\(|https?:\/\/(?!www\.w3\.org)/.test(text),
    reloads: text.includes('location.reload()'),
    film: [...strip.matchAll(/<figcaption>([\d,]+)<\/figcaption>/g)].map(([, step]) => step),
    curves: [...text.matchAll(/role-title-text[^>]*><text[^>]*>([^<]+)</g)].map(([, title]) => title),
    text: text.replaceAll(/<(style|script|svg)[\s\S]*?<\/\1>/g, '').replaceAll(/<[^>]+>/g, ' '),
  };
}

const args = [
  ...['train', '--dataset', 'moons', '--n', '200', '--hidden-features', '16', '--batch-size', '32', '--device', 'cpu'],
  ...['--max-steps', '600', '--save-steps', '100', '--logging-steps', '20'],
  ...['--sample-every', '200', '--sample-count', '50'],
  ...['--eval-every', '300', '--eval-samples', '50', '--keep-best', 'density'],
];

let stopped: ChildOutput;
let stoppedPage: string;
let resumed: ChildOutput;
/** Of the resumed run. */
let steps: string;
beforeAll(async () => {
  const log = file('run/samples/metrics.jsonl');
  const interruptWhen = () => existsSync(log) && readFileSync(log, 'utf8').includes('"step":200');
  // The sampler's own pace decides where the run is then: a run that is stopped late only has less to do again.
  stopped = await runCli([...args, '--max-steps', '100000', '--output', 'run'], folder, { interruptWhen });
  stoppedPage = read('run/run.html').toString();
  const { step } = JSON.parse(read('run', latestCheckpoint(), 'trainer_state.json').toString());
  steps = String(Math.ceil(step / 200) * 200 + 200);
  resumed = await runCli([...args, '--max-steps', steps, '--output', 'run', '--resume'], folder);
}, 480_000);

function latestCheckpoint(): string {
  const names = readdirSync(file('run')).filter((name) => name.startsWith('checkpoint-'));
  return names.sort((a, b) => Number(a.slice(11)) - Number(b.slice(11))).at(-1) ?? '';
}

describe('run.html', () => {
  it('of a run that was stopped says so, and does not load itself again', () => {
    expect(stopped.code).toBe(130);
    expect(pageOf(stoppedPage)).toMatchObject({ badge: 'interrupted', reloads: false, asksOthers: false });
    expect(pageOf(stoppedPage).text).toContain('continue with the same command and --resume');
  });

  it('goes on with what was logged before, when the run is resumed', () => {
    expect(resumed).toMatchObject({ code: 0, stdout: expect.stringContaining('page: run/run.html') });
    const page = pageOf(read('run/run.html').toString());
    const drawn = logOf('samples').map(({ step }) => step.toLocaleString('en-US'));
    expect(drawn[0]).toBe('200');
    expect(drawn.at(-1)).toBe(Number(steps).toLocaleString('en-US'));
    expect(page).toMatchObject({ badge: 'done', reloads: false, asksOthers: false });
    expect(page.film.slice(0, 1)).toEqual(['200']);
    expect(page.film.at(-1)).toBe(drawn.at(-1));
    expect(page.curves).toEqual(expect.arrayContaining(['loss', 'isotropy', 'learning_rate', 'density', 'coverage']));
    expect(page.text).toContain('loss.lambda');
  });

  it('stands beside the samples, which TensorBoard and the model card have too', async () => {
    const last =
      logOf('samples')
        .at(-1)
        ?.files.find((name) => name.endsWith('.png')) ?? '';
    const png = read('run/samples', last);
    expect(png.equals(read('run/pipeline/samples.png'))).toBe(true);
    expect(read('run/pipeline/README.md').toString()).toContain('![Samples of the model](samples.png)');
    const events = readdirSync(file('run/tensorboard')).map((name) => read('run/tensorboard', name));
    expect(events.some((bytes) => bytes.includes(png))).toBe(true);
    expect(events.every((bytes) => bytes.includes('_hparams_/session_start_info'))).toBe(true);
  });

  it('names the best model, which is in its folder', () => {
    const best = JSON.parse(read('run/best/best.json').toString());
    const densities = logOf('evaluation').map(({ density }) => density);
    expect(best).toMatchObject({ metric: 'density', value: Math.max(...densities) });
    expect(pageOf(read('run/run.html').toString()).text).toContain('best density');
    expect(existsSync(file('run/best/unet/model.onnx'))).toBe(true);
  });

  const logOf = (name: string): { step: number; files: string[]; density: number }[] =>
    read('run', name, 'metrics.jsonl')
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
});

describe('a long run', () => {
  it('has a page that loads itself again while it lasts, of bounded size', async () => {
    const output_dir = file('long');
    const samples_dir = path.join(output_dir, 'samples');
    mkdirSync(samples_dir, { recursive: true });
    const noise = {
      create: {
        width: 600,
        height: 600,
        channels: 3 as const,
        background: '#fff',
        noise: { type: 'gaussian' as const, mean: 120, sigma: 60 },
      },
    };
    writeFileSync(path.join(samples_dir, 'step-1.png'), await sharp(noise).png().toBuffer());
    const records = Array.from({ length: 1000 }, (_, i) => ({ step: 10 * (i + 1), files: ['step-1.png'] }));
    writeFileSync(path.join(samples_dir, 'metrics.jsonl'), records.map((record) => JSON.stringify(record)).join('\n'));
    const page = new RunPageLogger({ title: '<moons>', samples_dir, evaluation_dir: undefined, best_file: undefined });
    await page.begin({ output_dir, global_step: 0, max_steps: 1e6, settings: { note: '<script>' } });
    for (let step = 10; step <= 50_000; step += 10)
      await page.log(step, { loss: 1 / step, isotropy: Math.sin(step), epoch: step / 10, steps_per_second: 100 });
    const during = readFileSync(path.join(output_dir, 'run.html'), 'utf8');
    expect(pageOf(during)).toMatchObject({ badge: 'training', reloads: true });
    await page.close('failed');
    const text = readFileSync(path.join(output_dir, 'run.html'), 'utf8');
    const { film, badge, reloads } = pageOf(text);
    expect({ badge, reloads }).toEqual({ badge: 'failed', reloads: false });
    expect(film).toHaveLength(33);
    expect(film.at(-1)).toBe('10,000');
    // Noise is the worst picture to keep small: grids and scatters are a tenth of it.
    expect(text.length).toBeLessThan(4e6);
    expect(text).not.toContain('<moons>');
    expect(text).not.toContain('<script>"');
    cpSync(path.join(output_dir, 'run.html'), path.join(output_dir, 'copy.html'));
  }, 60_000);

  it('has curves of means that do not depend on where it was resumed', () => {
    const whole = new CurveRecord();
    const parts = new CurveRecord();
    for (let step = 1; step <= 3000; step++) {
      whole.add(step, { loss: step });
      parts.add(step, { loss: step });
      if (step === 1234) parts.curves();
    }
    const { step, values } = whole.curves();
    expect(parts.curves()).toEqual({ step, values });
    expect(step.length).toBeLessThanOrEqual(512);
    expect(step.at(-1)).toBe(3000);
    // 3,000 records make 375 points of eight: the first is the mean of 1 to 8.
    expect([step.length, step[0], values.loss?.[0]]).toEqual([375, 8, 4.5]);
  });
});
