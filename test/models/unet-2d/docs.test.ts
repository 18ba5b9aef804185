import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, inject, it } from 'vitest';
import { runExample } from '../../run-example.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'iso-unets-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('the example of docs/unets.md trains a model with a condition and draws', async () => {
  const text = readFileSync(path.join(root, 'docs/unets.md'), 'utf8');
  const [example = ''] = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
  const quicker = [
    [`from 'iso-diffusion'`, `from '${path.join(inject('build'), 'dist/index.js')}'`],
    ['num_train_epochs: 100', 'max_steps: 1, per_device_train_batch_size: 2'],
    ['num_inference_steps: 20', 'num_inference_steps: 2'],
  ] as const;
  for (const [from] of quicker) expect(example).toContain(from);
  const file = path.join(folder, 'example.mts');
  writeFileSync(
    file,
    quicker.reduce((code, [from, to]) => code.replaceAll(from, to), example),
  );
  await runExample(file, [], folder);
  expect(existsSync(path.join(folder, 'larger.png'))).toBe(true);
}, 120_000);
