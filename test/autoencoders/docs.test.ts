import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { runExample } from '../run-example.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'iso-autoencoder-docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('the examples of docs/autoencoders.md run, and a class of its own is saved and opened', async () => {
  const text = readFileSync(path.join(root, 'docs/autoencoders.md'), 'utf8');
  const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, block = '']) => block);
  expect(blocks).toHaveLength(4);
  const roundTrip = `
import { AutoencoderSession, initialParameters, loadAutoencoder, saveAutoencoder } from 'iso-diffusion';
const own = new TinyAutoencoder();
const weights = initialParameters(own, 0);
await saveAutoencoder('./own', own, weights);
const [before, after] = [await AutoencoderSession.create(own, weights, { device: 'cpu' }), await loadAutoencoder('./own', { device: 'cpu' })];
const image = { data: new Float32Array(6 * 10).map((_, i) => Math.sin(i)), shape: [1, 1, 6, 10] } as const;
const decoded = [];
for (const session of [before, after]) decoded.push(await session.decode(await session.encode(image)));
console.log(JSON.stringify(decoded.map(({ data, shape }) => [shape, [...data]])));`;
  const [made = '', trained = '', loaded = '', own = ''] = blocks;
  const quick = trained
    .replace(
      'num_train_epochs: 20, per_device_train_batch_size: 16',
      "max_steps: 1, per_device_train_batch_size: 2, device: 'cpu'",
    )
    .replace('max_images: 20', 'max_images: 2');
  expect(quick).toMatch(/max_steps: 1.*max_images: 2/s);
  const programs = [made, `${quick}console.log(psnr > 0)`, loaded, own + roundTrip].map((block) =>
    block.replace(/'iso-diffusion(\/\w+)?'/g, (_, room = '') => `'${path.join(root, `src${room}/index.ts`)}'`),
  );
  programs.forEach((program, i) => {
    writeFileSync(path.join(folder, `example-${i}.mts`), program);
  });
  // One after another in one process.
  const all = path.join(folder, 'all.mts');
  writeFileSync(all, programs.map((_, i) => `await import('./example-${i}.mts');`).join('\n'));
  const [first, measured, second, third] = (await runExample(all, [], folder)).trim().split('\n');
  expect(first).toBe('4 4');
  expect(measured).toBe('true');
  expect(second).toBe('[ 1, 4, 12, 16 ] [ 1, 4, 12, 16 ] [ 1, 3, 48, 64 ]');
  const [before, after] = JSON.parse(third ?? '');
  expect(before[0]).toEqual([1, 1, 6, 10]);
  expect(after).toEqual(before);
});
