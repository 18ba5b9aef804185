import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { runHere } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-condition-'));
const at = (...names: string[]) => path.join(folder, ...names);
const cli = (line: string) => runHere(line.trim().split(' '));

beforeAll(async () => {
  process.chdir(folder);
  writeFileSync(at('tiny.json'), JSON.stringify(tinyUNetConfig));
  mkdirSync(at('wide'));
  const ramp = Uint8Array.from({ length: 32 * 8 }, (_, i) => (i % 32) * 8);
  for (const name of ['a.png', 'b.png'])
    await sharp(ramp, { raw: { width: 32, height: 8, channels: 1 } })
      .png()
      .toFile(at('wide', name));
});
afterAll(() => {
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
});

it('images are trained on with images beside them, and drawn from others', async () => {
  const trained = await cli(
    'train --dataset wide --condition-dataset wide --cache-dir cache --resolution 8 --model tiny.json --batch-size 2 --max-steps 2 --sample-every 2 --sample-count 3 --device cpu --output beside',
  );
  // A slow machine has lines of progress there.
  expect(trained).toMatchObject({ code: 0, stderr: expect.not.stringMatching(/warning|error/) });
  expect(trained.stdout).toMatch(/wide: 2 images of 8x8x3; model: .* parameters, a condition of 3 channels/);
  expect(readdirSync(at('beside/samples'))).toContain('step-0000002.png');
  const config = JSON.parse(readFileSync(at('beside/pipeline/unet/config.json'), 'utf8'));
  expect(config).toMatchObject({ in_channels: 6, out_channels: 3 });
  const square = Uint8Array.from({ length: 64 }, (_, i) => i * 4);
  mkdirSync(at('small'));
  for (const name of ['a.png', 'b.png', 'c.png'])
    await sharp(square, { raw: { width: 8, height: 8, channels: 1 } })
      .png()
      .toFile(at('small', name));
  const generate = 'generate --model beside/pipeline --n 2 --steps 2 --scheduler ddim --device cpu';
  expect(await cli(`${generate} --condition small --out drawn`)).toMatchObject({ code: 0 });
  expect(readdirSync(at('drawn')).sort()).toEqual(['000000.png', '000001.png', 'generation.json']);
  const wrong = await cli(`${generate} --condition wide/a.png --out other.png`);
  expect(wrong).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/condition is 8x32, but the model takes 8x8/),
  });
  expect(await cli(`${generate} --out none.png`)).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/give condition/),
  });
  const evaluated = await cli(
    'evaluate --real small --fake beside/pipeline --condition small --n 3 --steps 2 --scheduler ddim --extractor raw-pixels --metrics prdc --k 1 --device cpu --json',
  );
  expect(JSON.parse(evaluated.stdout)).toMatchObject({ coverage: expect.any(Number) });
});
