import { writeFileSync } from 'node:fs';
import type { Frames } from '../site/messages.ts';
import type { Side } from '../site/page/experiment.ts';
import { type FirstPicture, type PackedFrames, readyFile } from '../site/page/first-picture.ts';
import { CHUNK } from '../site/settings.ts';
import { ModelRun } from '../site/worker/model-run.ts';
import { syntheticPoints } from '../src/datasets/points/synthetic.ts';
import { encodeFloat16 } from '../src/files/float-formats.ts';

/*
 * Trains the two models that come with the page, and writes the picture that it shows before anything is computed:
 * `npx tsx scripts/page-model.ts`, about a minute.
 */

const STEPS = 6000;
const POINTS = 400;
/** Beyond it points are cut off. */
const SCALE = 6;

const points = { name: 'swiss-roll', data: syntheticPoints('swiss-roll', { count: 10_000, seed: 0 }) };
const setup = { points, seed: 0, batchSize: 128, learningRate: 0.003 };
const trained = async (side: Side, lambda: number) => {
  const run = await ModelRun.begin({ ...setup, lambda, lambdaChanges: false });
  for (let step = 0; step < STEPS; step += CHUNK) await run.training.train(CHUNK);
  const { quality } = await run.measure({ count: 2000, steps: 20 });
  console.log(side, quality);
  const measured = { quality, isotropy: await run.isotropy() };
  const frames = packedFrames(await run.reverse({ count: POINTS, steps: 20 }));
  const weights = new Uint8Array(encodeFloat16(await run.training.weights()).buffer);
  writeFileSync(new URL(`../site/static/${readyFile(side)}`, import.meta.url), weights);
  await run.release();
  return { frames, measured };
};
const [plain, iso] = [await trained('plain', 0), await trained('iso', 0.1)];
const run = await ModelRun.begin({ ...setup, lambda: 0, lambdaChanges: false });
const picture: FirstPicture = {
  scale: SCALE,
  real: packed(run.real.subarray(0, 4 * POINTS)),
  forward: packedFrames(every(3, run.forward(POINTS))),
  reverse: { plain: plain.frames, iso: iso.frames },
  measured: { plain: plain.measured, iso: iso.measured },
};
writeFileSync(new URL('../site/static/first.json', import.meta.url), JSON.stringify(picture));

function every(stride: number, { timesteps, frames }: Frames): Frames {
  const isKept = (_: unknown, i: number) => i % stride === 0 || i === frames.length - 1;
  return { timesteps: timesteps.filter(isKept), frames: frames.filter(isKept) };
}

function packedFrames({ timesteps, frames }: Frames): PackedFrames {
  return { timesteps: timesteps.map((t) => Math.round(t)), frames: frames.map(packed) };
}

function packed(values: Float32Array): string {
  const whole = Int8Array.from(values, (value) => Math.max(-127, Math.min(127, Math.round((value * 127) / SCALE))));
  return Buffer.from(whole.buffer).toString('base64');
}
