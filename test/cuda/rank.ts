/*
 * A rank of mpirun in a process that has the fake libraries for CUDA: `rank.ts points|unet <batches> [device_id]` trains with one
 * step of so many batches at a time. Prints what it saw as a line of JSON; onnxruntime's verbose log goes to stderr.
 */
import { createHash } from 'node:crypto';
import { world } from '../../src/distributed/world.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/index.ts';
import { initialVector } from '../../src/models/model.ts';
import { resolveDevice } from '../../src/runtime/device.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { unet, zeros } from './cases.ts';
import { counters, logPlacement } from './counters.ts';

/** What a rank says. */
export interface RankReport {
  readonly rank: number;
  readonly device: string;
  /** Bit d: memory was allocated on device d. */
  readonly devices: number;
  /** Bytes of one step. */
  readonly toDevice: number;
  readonly toHost: number;
  readonly parameterBytes: number;
  /** The most memory of the device, in bytes. */
  readonly memoryPeak: number;
  /** Of the parameters after the steps. */
  readonly sha256: string;
  /** The first value of Adam's mean of gradients after the steps. */
  readonly firstMoment: number;
}

const STEPS = 3;

logPlacement();
const [, , kind = '', batches = '1', id] = process.argv;
const ranks = world();
const device = await resolveDevice('cuda', { device_id: id === undefined ? undefined : Number(id) });
const model = kind === 'unet' ? unet() : new ConditionalDense();
const args = resolveTrainingArguments({
  output_dir: 'unused',
  per_device_train_batch_size: 128,
  gradient_accumulation_steps: Number(batches),
});
const options = { model, loss: isoLoss({ lambda: 0.05 }), noise_scheduler: new DDPMScheduler() };
const engine = await Engine.create(
  stepSettings(options, args, ranks.size),
  { device },
  new Map([['parameters', initialVector(model, 0)]]),
  zeros(model, 128 * Number(batches)),
  stepSchedule(args, Number.MAX_SAFE_INTEGER),
  ranks,
);
await engine.run(0, 1);
const before = counters();
await engine.run(1, STEPS - 1);
const after = counters();
const state = await engine.state();
const parameters = state.get('parameters') ?? new Float32Array();
const report: RankReport = {
  rank: ranks.rank,
  device,
  devices: after.devices,
  toDevice: (after.bytesToDevice - before.bytesToDevice) / (STEPS - 1),
  toHost: (after.bytesToHost - before.bytesToHost) / (STEPS - 1),
  parameterBytes: parameters.byteLength,
  memoryPeak: after.memoryPeak,
  sha256: createHash('sha256').update(parameters).digest('hex'),
  firstMoment: state.get('first_moment')?.[0] ?? Number.NaN,
};
console.log(JSON.stringify(report));
