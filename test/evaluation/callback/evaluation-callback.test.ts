import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.ts';
import type { EvaluationCallbackOptions } from '../../../src/evaluation/callback/callback-options.ts';
import { EvaluationCallback } from '../../../src/evaluation/callback/evaluation-callback.ts';
import { SnapshotEvaluationError, SnapshotEvaluator } from '../../../src/evaluation/callback/snapshot-evaluator.ts';
import { evaluate } from '../../../src/evaluation/evaluate.ts';
import { pipeline } from '../../../src/pipelines/pipeline.ts';
import { imageGrid } from '../../../src/plots/image-grid.ts';
import type { Trainer } from '../../../src/trainers/trainer.ts';
import type { TrainerCallback } from '../../../src/trainers/trainer-callback.ts';
import { compiledScript } from '../../compiled-script.ts';
import { temporaryFolder } from '../../pipelines/saved-pipeline.ts';
import { smallImageTrainer } from '../../trainers/small-image-trainer.ts';
import { smallTrainer } from '../../trainers/small-trainer.ts';
import { stripes } from '../../trainers/stripes.ts';
import { tableExtractor } from '../table-images.ts';

const folder = await temporaryFolder();
const args = (name: string) => ({ output_dir: path.join(folder, name), max_steps: 12 });
const options: EvaluationCallbackOptions = {
  num_inference_steps: 3,
  samples: 9,
  device: 'cpu',
  metrics: {
    metrics: ['fid', 'prdc'],
    extractor: 'raw-pixels',
    num_samples: 12,
    cache_dir: path.join(folder, 'cache'),
  },
};

const evaluationOf = (name: string) => path.join(folder, name, 'evaluation');
const filesOf = (name: string) => readdirSync(evaluationOf(name)).sort();
const logOf = (name: string) => readFileSync(path.join(evaluationOf(name), 'metrics.jsonl'), 'utf8');
/** All weights, raw and averaged, and what was logged, but for the clock. */
const outcomeOf = (trainer: Trainer, name: string) => ({
  weights: trainer.weights(),
  ema: trainer.weights({ ema: true }),
  log: readFileSync(path.join(folder, name, 'metrics.jsonl'), 'utf8').replaceAll(/,?"steps_per_second":[^,}]*/g, ''),
});

let trained: Trainer;
const events: string[] = [];
beforeAll(async () => {
  const evaluation = new EvaluationCallback({
    ...options,
    on_evaluation: ({ step }) => void events.push(`evaluated ${step}`),
  });
  const steps: TrainerCallback = { onEpoch: ({ global_step }) => void events.push(`trained ${global_step}`) };
  trained = smallImageTrainer(args('unbroken'), [evaluation, steps]);
  await trained.train();
}, 240_000);

describe('evaluation while a model is trained', () => {
  it('writes a grid and metrics after every epoch of 4 steps, beside the training', () => {
    expect(filesOf('unbroken')).toEqual(['metrics.jsonl', 'step-0000004.png', 'step-0000008.png', 'step-0000012.png']);
    const records = logOf('unbroken')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(records.map(({ step, epoch, files }) => [step, epoch, files])).toEqual([
      [4, 1, ['step-0000004.png']],
      [8, 2, ['step-0000008.png']],
      [12, 3, ['step-0000012.png']],
    ]);
    for (const record of records)
      expect(record).toMatchObject({
        fid: expect.any(Number),
        coverage: expect.any(Number),
        extractor: { name: 'raw-pixels 8x8x1' },
        samples: 12,
        warnings: [expect.stringMatching(/^raw pixels/)],
      });
    // The epoch went on before its own evaluation had ended.
    expect(events.indexOf('trained 4')).toBeLessThan(events.indexOf('evaluated 4'));
    expect(events.at(-1)).toBe('evaluated 12');
  });

  it('takes the averaged weights', async () => {
    const saved = path.join(folder, 'saved');
    await trained.savePipeline(saved);
    const draw = await pipeline('unconditional-image-generation', saved, { device: 'cpu' });
    const scheduler = { ...draw.scheduler.toConfig(), _class_name: 'DDIMScheduler' };
    const generation = { num_inference_steps: 3, scheduler };
    const images = await draw({ ...generation, batch_size: 9, output_type: 'uint8' });
    const grid = readFileSync(path.join(evaluationOf('unbroken'), 'step-0000012.png'));
    expect(grid.equals(await imageGrid(images, { scale: 8 }))).toBe(true);
    const { metrics } = await evaluate({
      ...options.metrics,
      real: stripes(),
      fake: draw,
      generation,
      device: 'cpu',
    });
    expect(JSON.parse(logOf('unbroken').trim().split('\n')[2] ?? '')).toMatchObject(metrics);
    await draw.dispose();
  });

  it('leaves the training as it is, bit for bit', async () => {
    const plain = smallImageTrainer(args('plain'));
    await plain.train();
    expect(outcomeOf(plain, 'plain')).toEqual(outcomeOf(trained, 'unbroken'));
    expect(existsSync(evaluationOf('plain'))).toBe(false);
  });

  it('an interrupted run that is resumed ends with the same files', async () => {
    // However long the training takes to stop, the evaluation of step 8 is not over by then.
    const { run } = SnapshotEvaluator.prototype;
    vi.spyOn(SnapshotEvaluator.prototype, 'run').mockImplementation(async function (
      this: SnapshotEvaluator,
      snapshot,
      image,
    ) {
      const result = await run.call(this, snapshot, image);
      return snapshot.endsWith('-8') ? new Promise(() => undefined) : result;
    });
    const controller = new AbortController();
    const stop: TrainerCallback = { onEpoch: ({ epoch }) => void (epoch === 2 && controller.abort()) };
    const first = smallImageTrainer(args('broken'), [new EvaluationCallback(options), stop]);
    expect((await first.train({ signal: controller.signal })).interrupted).toBe(true);
    vi.restoreAllMocks();
    // What was begun is still there to be made up for.
    expect(readdirSync(evaluationOf('broken'))).toContain('.snapshot-8');
    expect(readdirSync(evaluationOf('broken'))).not.toContain('step-0000012.png');

    const second = smallImageTrainer(args('broken'), [new EvaluationCallback(options)]);
    await second.train({ resume_from_checkpoint: 'latest' });
    expect(filesOf('broken')).toEqual(filesOf('unbroken'));
    for (const file of filesOf('unbroken'))
      expect(
        readFileSync(path.join(evaluationOf('broken'), file)).equals(
          readFileSync(path.join(evaluationOf('unbroken'), file)),
        ),
        file,
      ).toBe(true);
    expect(outcomeOf(second, 'broken').weights).toEqual(outcomeOf(trained, 'unbroken').weights);
  }, 240_000);

  it('of another run in the folder is kept', async () => {
    mkdirSync(evaluationOf('shared'), { recursive: true });
    writeFileSync(path.join(evaluationOf('shared'), 'metrics.jsonl'), 'of another run');
    const evaluation = new EvaluationCallback({ num_inference_steps: 1, samples: 4, device: 'cpu' });
    await smallTrainer({ ...args('shared'), max_steps: 1 }, [evaluation]).train();
    expect(readFileSync(path.join(folder, 'shared/evaluation-2/metrics.jsonl'), 'utf8')).toBe('of another run');
    expect(filesOf('shared')).toEqual(['metrics.jsonl', 'step-0000001.png', 'step-0000001.svg']);
  }, 60_000);

  it('draws points over the training points; one that fails is a warning, and training goes on', async () => {
    const warnings: string[] = [];
    const evaluation = new EvaluationCallback({
      every_epochs: 2,
      num_inference_steps: 2,
      samples: 50,
      device: 'cpu',
      metrics: { nearest_k: 40, num_samples: 30 },
      on_warning: (message) => void warnings.push(message),
    });
    await smallTrainer({ output_dir: path.join(folder, 'points'), max_steps: 10 }, [evaluation]).train();
    expect(warnings).toEqual([
      expect.stringMatching(/step 10 was not evaluated: .*fake has 30 samples, but 'prdc' needs at least 41/),
    ]);
    expect(filesOf('points')).toEqual(['step-0000010.png', 'step-0000010.svg']);
  }, 240_000);

  it("measures by a metric and an extractor of the user's own, whose module its process imports", async () => {
    const own = {
      num_inference_steps: 2,
      samples: 0,
      device: 'cpu',
      metrics: {
        metrics: ['mean-gap'],
        metric_options: { power: 2 },
        extractor: 'brightness',
        num_samples: 6,
        cache_dir: path.join(folder, 'cache'),
      },
    } as const;
    const module = pathToFileURL(await compiledScript(new URL('../own-things.ts', import.meta.url))).href;
    await smallImageTrainer({ ...args('own'), max_steps: 4 }, [
      new EvaluationCallback({ ...own, import: module }),
    ]).train();
    expect(JSON.parse(logOf('own'))).toMatchObject({
      step: 4,
      mean_gap: expect.any(Number),
      extractor: { name: 'brightness all 8x8' },
    });

    await import('../own-things.ts');
    for (const [metrics, message] of [
      [own.metrics, /the metric 'mean-gap' is registered in the training process only.*'import'/],
      [{ extractor: 'brightness' }, /the extractor 'brightness' is registered in the training process only/],
    ] as const) {
      const callback = new EvaluationCallback({ ...own, metrics });
      const failure = await smallImageTrainer(args('own-unknown'), [callback])
        .train()
        .catch((caught) => caught);
      expect(failure).toBeInstanceOf(SnapshotEvaluationError);
      expect(failure.message).toMatch(message);
    }
  }, 240_000);

  it('without the weights of the extractor does not begin', async () => {
    const evaluation = new EvaluationCallback({
      metrics: {
        extractor: 'vgg16',
        extractor_options: { extractors_dir: path.join(folder, 'none'), local_files_only: true },
      },
      device: 'cpu',
    });
    let steps = 0;
    const trainer = smallImageTrainer(args('none'), [evaluation, { onStep: () => void steps++ }]);
    const failure = await trainer.train().catch((caught) => caught);
    expect(failure).toBeInstanceOf(SnapshotEvaluationError);
    expect(failure.message).toMatch(/no weights of the extractor 'vgg16'.*fetch https/);
    expect(steps).toBe(0);
  }, 120_000);

  it('refuses wrong options', () => {
    expect(() => new EvaluationCallback({ every_epochs: 0 })).toThrow(InvalidArgumentError);
    const extractor = tableExtractor([[1]]) as never;
    expect(() => new EvaluationCallback({ metrics: { extractor } })).toThrow(/register the extractor/);
  });
});
