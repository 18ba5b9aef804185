import vm from 'node:vm';
import { pipeline } from 'iso-diffusion';
import { expect, test } from 'vitest';

test('an older Node.js is told what is wrong', async () => {
  vm.runInThisContext('process').getBuiltinModule = undefined;
  await expect(
    pipeline('unconditional-image-generation', 'outside/images/pipeline', { device: 'cpu' }),
  ).rejects.toThrow(/device 'cpu' .*context of node:vm .*typed arrays .*Node\.js 20\.16 or later/);
});
