/**
 * The gradients of one batch of a U-Net in a process of its own: `tsx peak-memory.ts true|false` (gradient checkpointing)
 * prints what the run adds to the peak of the resident set, in MiB, and a digest of the gradients.
 */
import { createHash } from 'node:crypto';
import { isoLoss } from '../../src/losses/index.ts';
import { initialParameters, UNet2DModel } from '../../src/models/index.ts';
import { nchw } from '../../src/nn/layout.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { GradientSession } from '../../src/runtime/ort/gradient-session.ts';
import { hostTensor } from '../../src/runtime/session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { DiffusionObjective } from '../../src/trainers/step/diffusion-objective.ts';
import { buildGradientGraph, gradientName } from '../../src/trainers/step/loss-graph.ts';

const batchSize = 8;
const model = new UNet2DModel({
  sample_size: 32,
  block_out_channels: [32, 32],
  down_block_types: ['DownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'UpBlock2D'],
  layers_per_block: 3,
  norm_num_groups: 8,
  add_attention: false,
});
const { graph } = buildGradientGraph(
  {
    objective: new DiffusionObjective({ model, loss: isoLoss({ lambda: 0.1 }), noise_scheduler: new DDPMScheduler() }),
    batchSize,
    accumulationSteps: 1,
    batchesPerStep: 1,
    optimizer: { name: 'adam', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0 },
    maxGradNorm: 0,
    ema: false,
    gradientCheckpointing: process.argv[2] === 'true',
    overStep: false,
    lossScalars: [],
    computeDtype: 'float32',
  },
  nchw,
);
const values = initialParameters(model, 0);
const parameters = model.parameters.map(({ name, shape }) => {
  const value = values.get(name) ?? new Float32Array();
  return { name, gradientName: gradientName(name), shape, value, gradient: new Float32Array(value.length) };
});
const session = await GradientSession.create(graph, parameters);
const stream = new RandomStream(1);
const shape = [1, batchSize, ...model.sampleShape];
const normal = () => hostTensor('float32', shape, stream.fillNormal(new Float32Array(batchSize * 3 * 32 * 32)));
const feeds = {
  clean: normal(),
  noise: normal(),
  timestep: hostTensor(
    'int32',
    [1, batchSize],
    Int32Array.from({ length: batchSize }, (_, i) => 100 * i),
  ),
};
const before = process.resourceUsage().maxRSS;
await session.run(feeds);
const mebibytes = (process.resourceUsage().maxRSS - before) / 1024;
const digest = createHash('sha256');
for (const { gradient } of parameters) digest.update(gradient);
process.stdout.write(JSON.stringify({ mebibytes, digest: digest.digest('hex') }));
await session.release();
