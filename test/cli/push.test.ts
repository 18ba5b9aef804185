import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { watchOptions, watchRun } from '../../src/cli/commands/train/watch.ts';
import type { Settings } from '../../src/cli/options/command-options.ts';
import { MockHub } from '../hub/mock-hub.ts';
import { savePipeline } from '../pipelines/saved-pipeline.ts';
import { runHere } from './run-cli.ts';

let root: string;
let hub: MockHub;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-push-cli-'));
  hub = new MockHub();
  await hub.start();
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_TOKEN', 'hf_write');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(root, { recursive: true, force: true });
});

const train = (...flags: string[]) =>
  runHere([
    ...['train', '--dataset', 'moons', '--n', '64', '--batch-size', '32', '--hidden-features', '8'],
    ...['--max-steps', '2', '--sample-every', '0', '--device', 'cpu', '--output', path.join(root, 'roll'), ...flags],
  ]);

it('train --push-to-hub sends the whole pipeline, and names the repository by its folder', async () => {
  const { code, stdout } = await train('--push_to_hub', '--hub_private_repo');
  expect([code, stdout]).toEqual([0, expect.stringContaining(`pushed: ${hub.endpoint}/me/roll\n`)]);
  expect(hub.uploads.created).toEqual([
    expect.objectContaining({ name: 'roll', organization: 'me', visibility: 'private' }),
  ]);
  const sent = hub.uploads.committed;
  const folder = path.join(root, 'roll/pipeline');
  for (const file of ['unet/diffusion_pytorch_model.safetensors', 'model_index.json', 'point_scaler.json'])
    expect(sent.get(file)?.equals(await readFile(path.join(folder, file)))).toBe(true);
  const [stored, card] = [await readFile(path.join(folder, 'README.md'), 'utf8'), `${sent.get('README.md')}`];
  expect(stored).toContain("pipeline('unconditional-point-generation', './this-folder')");
  expect(card).toContain("pipeline('unconditional-point-generation', 'me/roll')");
  expect(card.replaceAll('me/roll', './this-folder')).toBe(stored);
}, 60_000);

it('--dry-run lists what would be sent, and sends nothing', async () => {
  const dry = await train('--push-to-hub', '--dry-run');
  expect(dry.code).toBe(0);
  expect(dry.stdout).toMatch(/dry run: nothing is sent\. A push would send \d+ files, \d+ bytes/);
  expect(dry.stdout).toContain(`${hub.endpoint}/YOUR-NAME/roll`);
  const { length } = await readFile(path.join(root, 'roll/pipeline/unet/diffusion_pytorch_model.safetensors'));
  expect(dry.stdout).toMatch(new RegExp(`unet/diffusion_pytorch_model\\.safetensors +${length}\n`));
  expect(dry.stdout).toContain('# Points from moons');
  const pushed = await runHere(['push', '--model', path.join(root, 'roll'), '--hub-model-id', 'me/roll', '--dry-run']);
  expect(pushed).toMatchObject({ code: 0, stdout: expect.stringContaining(`${hub.endpoint}/me/roll`) });
  vi.stubEnv('HF_TOKEN', '');
  expect(await runHere(['push', '--model', path.join(root, 'roll'), '--dry-run'])).toMatchObject({ code: 0 });
  expect(hub.requests).toEqual([]);
}, 60_000);

it('what a push needs is checked before the training', async () => {
  vi.stubEnv('HF_TOKEN', '');
  const none = await train('--push-to-hub');
  expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining('uploads need a token') });
  const wrong = await train('--push-to-hub', '--hub-token', 'hf_read');
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringMatching(/does not say whose token it is.*no write/) });
  const unused = await train('--hub-model-id', 'me/roll');
  expect(unused).toMatchObject({ code: 2, stderr: expect.stringContaining('--hub-model-id is for a push') });
  await expect(readFile(path.join(root, 'roll/metrics.jsonl'))).rejects.toThrow();
});

it('push --metrics puts the report on the card, in the form of model-index, with what it was computed with', async () => {
  const folder = await savePipeline(root);
  const report = path.join(root, 'report.json');
  const written = {
    ...{ precision: 0.5, recall: 0.25, k: 5, real_count: 100, fake_count: 50, real: 'owner/set', fake: 'x' },
    ...{ extractor: { name: 'inception', checksum: 'ab' }, settings: { seed: 0 } },
  };
  await writeFile(report, JSON.stringify(written));
  const { code } = await runHere([
    ...['push', '--model', folder, '--hub-model-id', 'me/roll', '--metrics', report, '--commit-message', 'Results'],
  ]);
  expect(code).toBe(0);
  const card = `${hub.uploads.committed.get('README.md')}`;
  const args = { extractor: 'inception', real_count: 100, fake_count: 50, nearest_k: 5 };
  expect(parse(card.split('---\n')[1] ?? '')['model-index']).toEqual([
    {
      name: 'roll',
      results: [
        {
          task: { type: 'unconditional-point-generation' },
          dataset: { name: 'owner/set', type: 'owner/set' },
          metrics: [
            { type: 'precision', value: 0.5, name: 'precision', args },
            { type: 'recall', value: 0.25, name: 'recall', args },
          ],
        },
      ],
    },
  ]);
  expect(card).toMatch(/## Metrics\n\n\| \| \|\n\|---\|---\|\n\| precision \| 0\.5 \|/);

  // A folder that is there is not a data set of the Hub, whatever its name.
  await writeFile(report, JSON.stringify({ ...written, real: 'test/cli' }));
  await runHere(['push', '--model', folder, '--hub-model-id', 'me/roll', '--metrics', report]);
  expect(`${hub.uploads.committed.get('README.md')}`).not.toContain('type: test/cli');

  await writeFile(report, '{"real": "x"}');
  const empty = await runHere(['push', '--model', folder, '--hub-model-id', 'me/roll', '--metrics', report]);
  expect(empty).toMatchObject({ code: 2, stderr: expect.stringContaining('has no metrics') });
});

it('the card of a run has its last evaluation, as EvaluationCallback wrote it', async () => {
  const log = [
    { step: 1, epoch: 0.5, files: [], samples: 16, precision: 0.25 },
    { step: 2, epoch: 1, files: [], samples: 16, precision: 0.5, recall: 0.75 },
  ];
  await mkdir(path.join(root, 'evaluation'));
  await writeFile(path.join(root, 'evaluation/metrics.jsonl'), log.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const settings = Object.fromEntries(
    Object.entries(watchOptions).map(([key, { schema }]) => [key, schema.safeParse(undefined).data]),
  ) as Settings<typeof watchOptions>;
  const given = { ...settings, eval_every: 1, dataset: 'digits', output_dir: root, device: 'cpu' } as const;
  const { resultsAt } = watchRun('images', { ...given, sample_every: 0 });
  const args = { extractor: 'inception', samples: 16 };
  expect(await resultsAt(2)).toEqual({ metrics: { precision: 0.5, recall: 0.75 }, args });
  expect(await resultsAt(3)).toBeUndefined();
});

it('a picture in the folder is sent too', async () => {
  const folder = await savePipeline(root);
  await writeFile(path.join(folder, 'samples.png'), 'picture');
  expect((await runHere(['push', '--model', folder, '--hub-model-id', 'me/roll'])).code).toBe(0);
  expect(`${hub.uploads.committed.get('samples.png')}`).toBe('picture');
});

it('a failed push says how to push again', async () => {
  const folder = await savePipeline(root);
  const { code, stderr } = await runHere(['push', '--model', folder, '--hub-model-id', 'you/other']);
  expect([code, stderr]).toEqual([
    2,
    expect.stringContaining(`iso-diffusion push --model ${folder} --hub-model-id you/other`),
  ]);
  const nothing = await runHere(['push', '--model', path.join(root, 'none'), '--hub-model-id', 'me/roll']);
  expect(nothing).toMatchObject({ code: 2, stderr: expect.stringContaining('is not a folder') });
});
