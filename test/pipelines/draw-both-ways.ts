/**
 * Draws from a saved pipeline in a process of its own, through `pipeline()` and through a plain `PreTrainedModel` of
 * transformers.js: `tsx draw-both-ways.ts FOLDER` prints the bytes of 3 images of seed 5 both ways, as JSON.
 */
import path from 'node:path';
import { PreTrainedModel, PretrainedConfig, Tensor } from '@huggingface/transformers';
import { DDIMScheduler, pipeline, SampleStreams } from '../../src/index.ts';

const [folder = ''] = process.argv.slice(2);
const COUNT = 3;
const STEPS = 10;
const seed = 5;

const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
const scheduler = DDIMScheduler.fromConfig(generate.scheduler.toConfig());
const images = await generate({
  batch_size: COUNT,
  num_inference_steps: STEPS,
  scheduler,
  seed,
});
await generate.dispose();

class UNet extends PreTrainedModel {}
const unet = await UNet.from_pretrained(path.resolve(folder), {
  subfolder: 'unet_ema',
  model_file_name: 'model',
  config: new PretrainedConfig({ model_type: 'custom' }),
  device: 'cpu',
  dtype: 'fp32',
  local_files_only: true,
});
const shape = [COUNT, 1, 8, 8];
let sample: Float32Array = new SampleStreams(seed, COUNT, 64).fillNormal(new Float32Array(COUNT * 64));
scheduler.setTimesteps(STEPS);
for (const timestep of scheduler.timesteps) {
  const { out_sample } = await unet({
    sample: new Tensor('float32', sample, shape),
    timestep: new Tensor('int64', BigInt64Array.of(BigInt(timestep)), [1]),
  });
  sample = scheduler.step(out_sample.data as Float32Array, timestep, sample).prev_sample;
}
await unet.dispose();

const throughPipeline = images.flatMap((image) => [...image.data]);
const throughTransformers = Array.from(sample, (x) => Math.round(Math.min(Math.max((x + 1) / 2, 0), 1) * 255));
process.stdout.write(JSON.stringify({ throughPipeline, throughTransformers }));
