import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.ts';
import { BestSnapshot } from '../../../src/evaluation/callback/best-snapshot.ts';
import type { EvaluationCallbackOptions } from '../../../src/evaluation/callback/callback-options.ts';
import { EvaluationCallback } from '../../../src/evaluation/callback/evaluation-callback.ts';
import { evaluate } from '../../../src/evaluation/evaluate.ts';
import { pipeline } from '../../../src/pipelines/pipeline.ts';
import type { RunLogger } from '../../../src/trainers/logging/run-logger.ts';
import type { TrainerCallback } from '../../../src/trainers/trainer-callback.ts';
import { temporaryFolder } from '../../pipelines/saved-pipeline.ts';
import { circle, smallTrainer } from '../../trainers/small-trainer.ts';

const folder = await temporaryFolder();
const options: EvaluationCallbackOptions = {
  every_steps: 8,
  samples: 20,
  num_inference_steps: 3,
  device: 'cpu',
  keep_best: 'fid',
  metrics: { metrics: ['fid', 'prdc'], num_samples: 60 },
};
const argsOf = (name: string) => ({ output_dir: path.join(folder, name), max_steps: 30, save_steps: 12 });
const read = (...names: string[]) => readFileSync(path.join(folder, ...names));
const recordsOf = (name: string): { step: number; fid: number }[] =>
  read(name, 'evaluation/metrics.jsonl')
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
/** The bytes of a folder by their names. */
const bytesOf = (directory: string) =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => path.relative(directory, path.join(parentPath, name)))
    .sort()
    .map((name) => [name, readFileSync(path.join(directory, name)).toString('base64')]);

const logged: string[] = [];
let weights: Map<string, Float32Array>;
beforeAll(async () => {
  const logger: RunLogger = {
    log: () => {},
    logEvaluation: (step, values) => void logged.push(`${step} ${Object.keys(values)}`),
    logImage: (step, name, png) => void logged.push(`${step} ${name} ${Buffer.from(png).toString('latin1', 1, 4)}`),
  };
  const trainer = smallTrainer(argsOf('unbroken'), [new EvaluationCallback(options)], circle(), [logger]);
  await trainer.train();
  weights = trainer.weights();
}, 240_000);

describe('the best model of a run', () => {
  it('is evaluated every so many steps and at the end, which the loggers are told', () => {
    expect(recordsOf('unbroken').map(({ step }) => step)).toEqual([8, 16, 24, 30]);
    expect(logged).toEqual(
      [8, 16, 24, 30].flatMap((step) => [`${step} fid,precision,recall,density,coverage`, `${step} samples PNG`]),
    );
  });

  it('is the one with the lowest FID, as a pipeline with its isotropy and a card', async () => {
    const records = recordsOf('unbroken');
    const lowest = records.reduce((best, record) => (record.fid < best.fid ? record : best));
    const best = JSON.parse(read('unbroken/best/best.json').toString());
    expect(best).toEqual({ metric: 'fid', step: lowest.step, value: lowest.fid });
    expect(JSON.parse(read('unbroken/best/unet/isotropy.json').toString()).isotropy).toBeGreaterThan(0);
    expect(read('unbroken/best/README.md').toString()).toContain(`| steps | ${lowest.step} |`);
    const draw = await pipeline('unconditional-point-generation', path.join(folder, 'unbroken/best'), {
      device: 'cpu',
    });
    const scheduler = { ...draw.scheduler.toConfig(), _class_name: 'DDIMScheduler' };
    const generation = { num_inference_steps: 3, scheduler };
    const { metrics } = await evaluate({
      real: circle(),
      fake: draw,
      metrics: ['fid'],
      num_samples: 60,
      num_real: 150,
      generation,
    });
    expect(metrics.fid).toBe(lowest.fid);
    await draw.dispose();
  });

  it('and the samples leave the training as it is, bit for bit, where runs of many steps end elsewhere', async () => {
    const plain = smallTrainer(argsOf('plain'));
    await plain.train();
    expect(plain.weights()).toEqual(weights);
  });

  it('is the same after an interruption', async () => {
    const controller = new AbortController();
    const stop: TrainerCallback = {
      interval_steps: 17,
      onInterval: ({ global_step }) => void (global_step === 17 && controller.abort()),
    };
    const first = smallTrainer(argsOf('broken'), [new EvaluationCallback(options), stop]);
    expect((await first.train({ signal: controller.signal })).interrupted).toBe(true);
    const second = smallTrainer(argsOf('broken'), [new EvaluationCallback(options)]);
    await second.train({ resume_from_checkpoint: 'latest' });
    expect(second.weights()).toEqual(weights);
    expect(bytesOf(path.join(folder, 'broken/best'))).toEqual(bytesOf(path.join(folder, 'unbroken/best')));
    expect(read('broken/evaluation/metrics.jsonl')).toEqual(read('unbroken/evaluation/metrics.jsonl'));
  }, 240_000);

  it('takes no step back: equal and worse ones, and NaN, are not kept', async () => {
    const directory = path.join(folder, 'kept');
    const offered = async (best: BestSnapshot, step: number, coverage: number) => {
      const snapshot = path.join(folder, `snapshot-${step}`);
      mkdirSync(snapshot);
      writeFileSync(path.join(snapshot, 'model_index.json'), String(step));
      await best.offer(snapshot, { step, coverage });
      return [JSON.parse(read('kept/best.json').toString()).step, existsSync(snapshot)];
    };
    const best = await BestSnapshot.open(directory, 'coverage', ['prdc'], 0);
    expect(await offered(best, 1, 0.5)).toEqual([1, false]);
    expect(await offered(best, 2, 0.4)).toEqual([1, true]);
    expect(await offered(best, 3, 0.5)).toEqual([1, true]);
    expect(await offered(best, 4, Number.NaN)).toEqual([1, true]);
    expect(await offered(await BestSnapshot.open(directory, 'coverage', ['prdc'], 9), 5, 0.5)).toEqual([1, true]);
    expect(await offered(await BestSnapshot.open(directory, 'coverage', ['prdc'], 9), 6, 0.6)).toEqual([6, false]);
    // A fresh run, and a folder that is not a best model, leave what is there.
    await BestSnapshot.open(directory, 'coverage', ['prdc'], 0);
    expect(read('kept-2/best.json').toString()).toContain('"step": 6');
    mkdirSync(directory);
    writeFileSync(path.join(directory, 'mine.txt'), 'mine');
    await BestSnapshot.open(directory, 'coverage', ['prdc'], 9);
    expect(read('kept-3/mine.txt').toString()).toBe('mine');
  });

  it('needs a value that is better when it is higher or lower', async () => {
    await expect(BestSnapshot.open(folder, 'kid_std', ['kid', 'prdc'], 0)).rejects.toThrow(
      /keep_best is 'kid_std', but the metrics kid, prdc give kid_mean, precision, recall, density, coverage/,
    );
    await BestSnapshot.open(path.join(folder, 'none'), 'fd_dinov2', ['fd-dinov2', 'cmmd'], 0);
    await expect(BestSnapshot.open(folder, 'fid', ['fd-dinov2', 'cmmd'], 0)).rejects.toThrow(/give fd_dinov2, cmmd:/);
    expect(() => new EvaluationCallback({ keep_best: 'fid' })).toThrow(InvalidArgumentError);
    expect(() => new EvaluationCallback({ every_epochs: 1, every_steps: 1 })).toThrow(/leave one of them out/);
  });
});
