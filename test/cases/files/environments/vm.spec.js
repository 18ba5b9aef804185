import { readFileSync } from 'node:fs';
import vm from 'node:vm';
import { isoDiffusionLoss, loadPoints, pipeline } from 'iso-diffusion';
import { expect, test } from 'vitest';
import { run } from './program.js';

test('typed arrays are those of another realm here', () => {
  expect(vm.runInThisContext('Float32Array')).not.toBe(Float32Array);
});

test('what is trained and drawn is the same as outside', async () => {
  const outside = JSON.parse(readFileSync('outside.json', 'utf8'));
  expect(await run('inside')).toEqual(outside);
});

test('arrays that come out are of this realm, and errors of the system say what they are', async () => {
  const generate = await pipeline('unconditional-point-generation', 'inside/points/pipeline', { device: 'cpu' });
  expect((await generate({ batch_size: 3, num_inference_steps: 2 })).points).toBeInstanceOf(Float32Array);
  await generate.dispose();
  const noise = Float32Array.of(1, -1);
  expect(isoDiffusionLoss({ predicted_noise: noise, noise, lambda: 0 }).loss).toBe(0);
  await expect(loadPoints('none.csv')).rejects.toThrow(/^none\.csv does not exist/);
});
