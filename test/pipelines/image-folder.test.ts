import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadImages } from '../../src/datasets/index.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { pipeline, type UnconditionalImageGenerationPipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler } from '../../src/schedulers/index.ts';
import { saveUNet } from './saved-unet.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-folder-'));
const model = path.join(folder, 'pipeline');
let generate: UnconditionalImageGenerationPipeline;
beforeAll(async () => {
  await saveUNet(model, { num_class_embeds: 4 });
  await saveUNet(path.join(folder, 'plain'));
  generate = await pipeline('unconditional-image-generation', model, { device: 'cpu' });
});
afterAll(async () => {
  await generate.dispose();
  rmSync(folder, { recursive: true, force: true });
});

const images = (name: string) =>
  readdirSync(path.join(folder, name))
    .filter((file) => file.endsWith('.png'))
    .sort()
    .map((file) => readFileSync(path.join(folder, name, file)).toString('base64'));

describe('toFolder', () => {
  it('goes on after SIGKILL in the middle, with the same images', async () => {
    const script = fileURLToPath(new URL('./draw-into-folder.ts', import.meta.url));
    const tsx = fileURLToPath(import.meta.resolve('tsx'));
    const target = path.join(folder, 'killed');
    const child = spawn(process.execPath, ['--import', tsx, script, path.join(folder, 'plain'), target, '4000'], {
      stdio: 'ignore',
    });
    const closed = new Promise((resolve) => child.on('close', resolve));
    while (child.exitCode === null && !existsSync(path.join(target, '000005.png')))
      await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGKILL');
    await closed;
    const before = images('killed');
    expect(before.length).toBeGreaterThan(5);
    expect(before.length).toBeLessThan(4000);

    const plain = await pipeline('unconditional-image-generation', path.join(folder, 'plain'), {
      device: 'cpu',
    });
    const count = before.length + 3;
    await plain.toFolder(target, { count, num_inference_steps: 20, seed: 3, batch_size: 7 });
    await plain.toFolder(path.join(folder, 'whole'), { count, num_inference_steps: 20, seed: 3 });
    await plain.dispose();
    expect(images('killed')).toEqual(images('whole'));
    expect(images('killed').slice(0, before.length)).toEqual(before);
    // Its record is no image that was lost.
    const read = await loadImages(target, { cache_dir: path.join(folder, 'cache') });
    expect({ count: read.count, skipped: read.skipped }).toEqual({ count, skipped: [] });
  }, 120_000);

  it('takes one class and one seed an image, in batches, and more of them later', async () => {
    const lists = { class_labels: [3, 1, 0, 2, 1], seed: [5, 4, 3, 2, 1] };
    const options = { ...lists, num_inference_steps: 3, guidance_scale: 2 };
    const first = { ...options, class_labels: [3, 1, 0], seed: [5, 4, 3], count: 3 };
    await generate.toFolder(path.join(folder, 'lists'), { ...first, batch_size: 2 });
    await generate.toFolder(path.join(folder, 'lists'), { ...options, count: 5, batch_size: 2 });
    await generate.toFolder(path.join(folder, 'lists-whole'), { ...options, count: 5 });
    expect(images('lists')).toEqual(images('lists-whole'));
    expect(new Set(images('lists')).size).toBe(5);
  });

  it('reports progress within a batch', async () => {
    const fractions: number[] = [];
    await generate.toFolder(path.join(folder, 'progress'), {
      count: 4,
      batch_size: 2,
      class_labels: 0,
      num_inference_steps: 4,
      on_progress: (fraction) => fractions.push(fraction),
    });
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(new Set(fractions).size).toBeGreaterThan(6);
    expect(fractions.at(-1)).toBe(1);
  });

  it('refuses to mix images of two settings, and keeps those there', async () => {
    const target = path.join(folder, 'one-setting');
    const options = { count: 2, class_labels: 1, num_inference_steps: 3 };
    await generate.toFolder(target, options);
    const before = images('one-setting');
    for (const [other, message] of [
      [{ seed: 1 }, /seed 0 there, 1 here/],
      [{ num_inference_steps: 4 }, /num_inference_steps 3 there, 4 here/],
      [{ scheduler: new DDIMScheduler() }, /scheduler._class_name "DDPM.*" there, "DDIM/],
      [{ class_labels: [0, 1, 2] }, /class_labels 1 there, \[0,1,2\] here/],
    ] as const)
      await expect(generate.toFolder(target, { ...options, count: 3, ...other })).rejects.toThrow(message);
    const plain = await pipeline('unconditional-image-generation', path.join(folder, 'plain'), {
      device: 'cpu',
    });
    await expect(plain.toFolder(target, { count: 3, num_inference_steps: 3 })).rejects.toThrow(/model_sha256/);
    await plain.dispose();
    expect(images('one-setting')).toEqual(before);

    const foreign = path.join(folder, 'one-setting', 'generation.json');
    rmSync(foreign);
    await expect(generate.toFolder(target, options)).rejects.toThrow(/000000.png is there already, but no gen/);
  });

  it('refuses wrong numbers before the folder is made', async () => {
    const target = path.join(folder, 'never');
    const options = { count: 4, class_labels: 0, num_inference_steps: 2 };
    for (const wrong of [
      { count: 0 },
      { count: 1.5 },
      { batch_size: 0 },
      { batch_size: -2 },
      { num_inference_steps: 2000 },
      { eta: 2 },
      { class_labels: [1, 2] },
      { class_labels: 4 },
      { class_labels: undefined },
      { seed: [1] },
    ])
      await expect(generate.toFolder(target, { ...options, ...wrong })).rejects.toThrow(InvalidArgumentError);
    expect(existsSync(target)).toBe(false);
    const file = path.join(folder, 'a-file');
    writeFileSync(file, '');
    await expect(generate.toFolder(file, options)).rejects.toThrow(/is a file/);
  });
});
