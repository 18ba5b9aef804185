// A program as a user bundles it: it starts worker threads for batches and for sampling, and opens the digits.
import {
  ConditionalDense,
  DDPMScheduler,
  isoLoss,
  loadImages,
  loadPoints,
  pipeline,
  Trainer,
  UNet2DModel,
} from 'iso-diffusion';

const trainer = (model, output_dir, train_dataset) =>
  new Trainer({
    model,
    args: { output_dir, max_steps: 2, per_device_train_batch_size: 8, report_to: [] },
    train_dataset,
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
  });

export async function run(folder) {
  const points = trainer(
    new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
    `${folder}/points`,
    await loadPoints('moons', { n: 64 }),
  );
  await points.train();
  await points.savePipeline(`${folder}/points/pipeline`);
  const drawPoints = await pipeline('unconditional-point-generation', `${folder}/points/pipeline`);
  const drawn = await drawPoints({ batch_size: 2000, num_inference_steps: 5, seed: 0 });
  await drawPoints.dispose();

  const unet = new UNet2DModel({
    sample_size: 8,
    in_channels: 1,
    out_channels: 1,
    layers_per_block: 1,
    block_out_channels: [8, 16],
    norm_num_groups: 4,
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    attention_head_dim: 8,
  });
  const images = trainer(unet, `${folder}/images`, await loadImages('digits'));
  await images.train();
  await images.savePipeline(`${folder}/images/pipeline`);
  const drawImage = await pipeline('unconditional-image-generation', `${folder}/images/pipeline`, { device: 'cpu' });
  const image = await drawImage({ num_inference_steps: 3, seed: 0 });
  await drawImage.dispose();
  return { points: Array.from(drawn.points.subarray(0, 8)), size: drawn.points.length, pixels: Array.from(image.data) };
}
