import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { UNet2DModel } from '../src/models/index.ts';
import { pipeline } from '../src/pipelines/index.ts';
import { DDIMScheduler } from '../src/schedulers/index.ts';
import { saveModel } from '../test/pipelines/saved-unet.ts';
import { median } from './harness.ts';
import { withSavedPipeline } from './saved-pipeline.ts';

/** How many readings of the memory the line goes through. */
const READINGS = 40;

/**
 * The memory of a long service: `--calls` calls of a small model, then `--rounds` times the model is loaded, used and
 * disposed of. The resident set is read after a garbage collection; the line goes through the second half of the calls.
 */
export async function run(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: { calls: { type: 'string', default: '10000' }, rounds: { type: 'string', default: '100' } },
  });
  const [calls, rounds] = [Number(values.calls), Number(values.rounds)];
  const model = new UNet2DModel({
    sample_size: 8,
    in_channels: 1,
    out_channels: 1,
    block_out_channels: [16, 32],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
  });
  const save = (folder: string) => saveModel(folder, model);
  await withSavedPipeline(save, async (folder) => {
    const open = () => pipeline('unconditional-image-generation', folder, { device: 'cpu' });
    const options = { num_inference_steps: 2, scheduler: new DDIMScheduler() };

    const generate = await open();
    const ofCalls = await readings(calls, (seed) => generate({ ...options, seed }));
    await generate.dispose();
    const slope = 1000 * slopeOf(ofCalls.slice(READINGS / 2));
    console.log(`${calls} calls: ${shown(ofCalls)} MiB; ${slope.toFixed(3)} MiB per 1,000 calls`);

    const ofRounds = await readings(rounds, async (seed) => {
      const opened = await open();
      await opened({ ...options, seed });
      await opened.dispose();
    });
    const [middle, last] = [ofRounds.slice(READINGS / 4, READINGS / 2), ofRounds.slice(-READINGS / 4)].map((part) =>
      median(part.map(({ mebibytes }) => mebibytes)),
    ) as [number, number];
    const growth = last - middle;
    console.log(
      `${rounds} times loaded and disposed of: ${shown(ofRounds)} MiB; ${growth.toFixed(1)} MiB from the second quarter to the last`,
    );
    console.log(`service ${slope < 1 && growth < 5 ? 'levels off' : 'GROWS'}`);
  });
}

interface Reading {
  readonly done: number;
  readonly mebibytes: number;
}

async function readings(count: number, work: (index: number) => Promise<unknown>): Promise<Reading[]> {
  setFlagsFromString('--expose-gc');
  const collectGarbage: () => void = runInNewContext('gc');
  const read: Reading[] = [];
  for (let done = 0; done < count; ) {
    await work(done++);
    if (Math.floor((done * READINGS) / count) === Math.floor(((done - 1) * READINGS) / count)) continue;
    collectGarbage();
    read.push({ done, mebibytes: process.memoryUsage.rss() / 2 ** 20 });
  }
  return read;
}

/** Of the least-squares line, in MiB for each call. */
function slopeOf(read: readonly Reading[]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [middle, level] = [mean(read.map(({ done }) => done)), mean(read.map(({ mebibytes }) => mebibytes))];
  const covariance = read.reduce((sum, { done, mebibytes }) => sum + (done - middle) * (mebibytes - level), 0);
  return covariance / read.reduce((sum, { done }) => sum + (done - middle) ** 2, 0);
}

function shown(read: readonly Reading[]): string {
  return read
    .filter((_, index) => (index + 1) % (READINGS / 8) === 0)
    .map(({ mebibytes }) => mebibytes.toFixed(0))
    .join(', ');
}
