import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { pipeline } from '../src/index.ts';
import { isAvailable, resolveDevice } from '../src/runtime/device.ts';
import { runHere } from './cli/run-cli.ts';
import { blocks } from './doc-blocks.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-troubleshooting-'));
const before = process.cwd();
beforeAll(() => process.chdir(folder));
afterAll(() => {
  process.chdir(before);
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** What a command that fails prints. */
async function refusal(command: string): Promise<string> {
  const { code, stderr } = await runHere(command.split(' '));
  expect(code, command).not.toBe(0);
  return stderr;
}

const plainText = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

it('docs/troubleshooting.md quotes what the package says', async () => {
  mkdirSync('empty');
  mkdirSync('sizes');
  const background = { r: 9, g: 99, b: 199 };
  for (const width of [8, 9])
    await sharp({ create: { width, height: 8, channels: 3, background } }).toFile(`sizes/${width}.png`);
  const train = 'train --dataset swiss-roll --batch-size 64 --hidden-features 8 --device cpu --sample-every 0';
  expect(await runHere(`${train} --max-steps 1 --output runs/photos`.split(' '))).toMatchObject({ code: 0 });

  const said: string[] = [];
  const hasGpu = (await isAvailable('cuda')) || (await isAvailable('webgpu'));
  if (!hasGpu)
    for (const device of ['cuda', 'webgpu'])
      said.push(await refusal(`train --device ${device} --max-steps 1 --output other`));
  await resolveDevice('auto', { warn: (message) => said.push(message) });
  said.push(
    await refusal('train --dataset ./nowhere --output other'),
    await refusal('train --dataset ./empty --output other'),
    await refusal('evaluate --real ./sizes --fake ./sizes --extractor raw-pixels'),
    await refusal(`${train} --output runs/photos`),
    await refusal('train --lamda 0.1'),
    await refusal(`${train} --lr 1e6 --max-steps 300 --output diverged`),
    await refusal('generate --model runs/photos --steps 5000 --out points.csv'),
  );
  vi.stubEnv('XDG_CACHE_HOME', path.join(folder, 'cache'));
  vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
  said.push(await refusal('generate --model owner/name'));
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  said.push(
    await refusal('generate --model owner/name'),
    await refusal('evaluate --real digits --fake digits --metrics fid'),
  );
  const generate = await pipeline('unconditional-point-generation', './runs/photos/pipeline', { device: 'cpu' });
  await generate({ noise_scale: 1e30 }).catch((error: Error) => said.push(error.message));
  await generate.dispose();

  const quoted = blocks('docs/troubleshooting.md', 'text').map((text) => text.trim());
  expect(quoted.length).toBeGreaterThan(12);
  for (const text of quoted) {
    // A machine with a GPU does not say that it has none.
    if (hasGpu && text.startsWith('device ')) continue;
    const pattern = new RegExp(text.split('…').map(plainText).join('[\\s\\S]*'));
    const isSaid = said.some((message) => pattern.test(message));
    expect(isSaid, `nothing says: ${text}\nBut: ${said.join('\n')}`).toBe(true);
  }
}, 240_000);
