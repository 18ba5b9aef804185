import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from './run-cli.ts';

// It lies outside of this repository: that it finds the package is the command line's doing.
const MODULE = `
import { defineLoss, losses, metrics, models, regressionTarget, Scheduler, schedulers } from 'iso-diffusion';
import { abs, add, reduceMean, sub } from 'iso-diffusion/graph';
import { Linear, parametersOf, TimeEmbedding } from 'iso-diffusion/nn';

class TinyMlp {
  sampleShape = [2];
  constructor({ width = 8 } = {}) {
    this.config = { _class_name: 'TinyMlp', width };
    this.input = new Linear('input', 2, width);
    this.time = new TimeEmbedding('time', { in_channels: width, time_embed_dim: width });
    this.output = new Linear('output', width, 2);
    this.parameters = parametersOf([this.input, this.time, this.output]);
  }
  static fromConfig({ width }) {
    return new TinyMlp({ width });
  }
  forward({ sample, timestep }, context) {
    const hidden = add(this.input.forward(sample, context), this.time.forward(timestep, context));
    return this.output.forward(hidden, context);
  }
}
models.register('TinyMlp', TinyMlp);

/** Every step ends at the same place. */
class ConstantScheduler extends Scheduler {
  className = 'ConstantScheduler';
  step(_output, _timestep, sample) {
    return { prev_sample: sample.map(() => 0.5) };
  }
}
schedulers.register('ConstantScheduler', ConstantScheduler);

losses.register('absolute', ({ scale }) =>
  defineLoss({ name: 'absolute', scale }, (inputs) => {
    const distance = reduceMean(abs(sub(inputs.modelOutput, regressionTarget(inputs))));
    return { loss: distance, terms: { distance, twice_the_distance: add(distance, distance) } };
  }),
);

metrics.register('spread', {
  kinds: ['points'],
  needs: { fake: ['features'] },
  options: { offset: 0 },
  compute({ fake, options }) {
    const { data } = fake.features;
    return { spread: options.offset + Math.max(...data) - Math.min(...data) };
  },
});
`;

let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'iso-import-'));
  mkdirSync(path.join(root, 'lib'));
  writeFileSync(path.join(root, 'lib/mine.js'), MODULE);
  writeFileSync(path.join(root, 'throws.js'), "throw new Error('the registry is closed\\nsecond line');");
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const cli = (line: string) => runCli(line.split(' '), root);

describe('--import', () => {
  it('makes models, losses, schedulers and metrics known by their names', async () => {
    writeFileSync(
      path.join(root, 'train.json'),
      JSON.stringify({ import: './lib/mine.js', model: 'TinyMlp', model_config: { width: 6 } }),
    );
    writeFileSync(path.join(root, 'loss.json'), JSON.stringify({ scale: 3 }));
    const trained = await cli(
      'train --config train.json --dataset moons --n 64 --max-steps 4 --logging-steps 2 --device cpu --loss absolute --loss-options loss.json --output run',
    );
    expect(trained.stderr).not.toMatch(/error/);
    expect(trained.code).toBe(0);
    expect(trained.stdout).toMatch(/step 4: loss \d.*twice_the_distance \d/);
    expect(trained.stdout).toMatch(/plot: run\/twice_the_distance.png/);
    const log = readFileSync(path.join(root, 'run/metrics.jsonl'), 'utf8').trim().split('\n');
    const last = JSON.parse(log.at(-1) ?? '');
    expect(last.twice_the_distance).toBeCloseTo(2 * last.distance, 5);
    const config = JSON.parse(readFileSync(path.join(root, 'run/pipeline/unet/config.json'), 'utf8'));
    expect(config).toMatchObject({ _class_name: 'TinyMlp', width: 6 });

    const drawn = await cli(
      'generate --model run --import ./lib/mine.js --scheduler constant --steps 3 --n 5 --device cpu --out points.csv',
    );
    expect(drawn.code).toBe(0);
    const rows = readFileSync(path.join(root, 'points.csv'), 'utf8').trim().split('\n').slice(-5);
    expect(new Set(rows).size).toBe(1);

    const measured = await cli(
      'evaluate --real moons --fake points.csv --import lib/mine.js --metrics spread --metric-options {"offset":7} --json',
    );
    expect(measured.code).toBe(0);
    expect(JSON.parse(measured.stdout).spread).toBeGreaterThanOrEqual(7);
  });

  it.each([
    ['doctor --import ./none.js', /^error: the module '.\/none.js' cannot be imported: Cannot find module.*\n$/],
    ['train --import ./throws.js', /^error: the module '.\/throws.js' cannot be imported: the registry is closed\n$/],
    [
      'statistics --import no-such-package',
      /^error: the module 'no-such-package' cannot be imported: Cannot find package/,
    ],
    ['train --dataset moons --model TinyMpl', /^error: --model 'TinyMpl' is unknown: use .*small.*ConditionalDense/],
    ['train --dataset moons --loss absolut --import lib/mine.js', /absolut.*Did you mean 'absolute'\?/],
    [
      'generate --model run --scheduler constnt --import lib/mine.js',
      /'constnt' is unknown.*Did you mean 'constant'\?/,
    ],
    [
      'train --dataset moons --loss absolute --lambda 1 --import lib/mine.js',
      /--lambda is 1, but it belongs to --loss iso/,
    ],
    ['train --dataset moons --loss iso --loss-options {', /--loss-options '\{' must be a JSON object/],
    ['train --dataset moons --model-config {}', /--model-config is the config of a class/],
  ])('refuses %s', async (line, message) => {
    const { code, stderr } = await cli(line);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});
