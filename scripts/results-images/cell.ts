import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { cardName } from '../../bench/gpu/nvidia-smi.ts';
import type { ImageSet } from '../../src/datasets/index.ts';
import { ConfigError } from '../../src/errors.ts';
import { environment, JobClock } from '../../src/experiments/jobs/job.ts';
import { readTrainingCurve } from '../../src/experiments/jobs/training.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { stringifySorted } from '../../src/files/json.ts';
import { elementCount } from '../../src/graph/types.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { UNet2DModel } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import type { Device } from '../../src/runtime/device.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/index.ts';
import { CELL_FILE, type Cell, type CellRecord, cellName, MODELS, SAMPLES_FILE, type StudySettings } from './study.ts';

/** Entries of the curve. */
const CURVE_LENGTH = 40;
/** Checkpoints of a run, from which a killed one goes on. */
const CHECKPOINTS = 4;
const BATCH = 500;

/**
 * Trains the model of a cell, draws from it, and writes `samples.u8` and then `cell.json` into its folder. A cell that was stopped
 * goes on from its last checkpoint, and on the cpu ends with the same bytes.
 *
 * @returns whether it is finished: false where it was interrupted.
 */
export async function runCell(
  cell: Cell,
  folder: string,
  images: ImageSet,
  settings: StudySettings,
  device: Device,
): Promise<boolean> {
  await mkdir(folder, { recursive: true });
  const clock = await JobClock.start(folder);
  const training = path.join(folder, 'training');
  const { height, width, channels } = images;
  const model = new UNet2DModel({
    ...MODELS[settings.model],
    sample_size: [height, width],
    in_channels: channels,
    out_channels: channels,
  });
  const logging_steps = Math.ceil(settings.steps / CURVE_LENGTH);
  const save_steps = logging_steps * (CURVE_LENGTH / CHECKPOINTS);
  const trainer = new Trainer({
    model,
    args: {
      output_dir: training,
      max_steps: settings.steps,
      per_device_train_batch_size: settings.batch_size,
      learning_rate: settings.learning_rate,
      lr_scheduler_type: 'cosine',
      warmup_steps: settings.warmup_steps,
      optim: 'adamw',
      max_grad_norm: 1,
      use_ema: true,
      seed: cell.seed,
      device,
      logging_steps,
      save_steps,
      save_total_limit: 1,
      report_to: ['jsonl'],
      disable_tqdm: true,
    },
    train_dataset: images,
    loss: isoLoss({ lambda: cell.lambda }),
    noise_scheduler: new DDPMScheduler(),
    callbacks: [
      {
        onStep: ({ global_step, max_steps, steps_per_second }, { loss, isotropy = Number.NaN }) => {
          if (global_step % save_steps > 0 && global_step < max_steps) return;
          console.log(
            `${cellName(cell)}: step ${global_step}/${max_steps}, loss ${loss.toFixed(4)}, isotropy ${isotropy.toFixed(4)}, ${steps_per_second.toFixed(1)} steps/s`,
          );
        },
        onSave: () => clock.save(),
      },
    ],
  });
  const { interrupted } = await trainer.train({ resume_from_checkpoint: 'latest' });
  if (interrupted) return false;
  const folderOfPipeline = path.join(folder, 'pipeline');
  await trainer.savePipeline(folderOfPipeline);
  const { samples, isotropy } = await draw(folderOfPipeline, cell, settings, device);
  const record: CellRecord = {
    cell,
    settings,
    fingerprint: images.fingerprint,
    parameters: model.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    samples: { count: settings.samples, height, width, channels: channels === 1 ? 1 : 3 },
    isotropy,
    curve: await readTrainingCurve(training),
    environment: { ...environment(), device, card: device === 'cuda' ? (cardName() ?? null) : null },
  };
  await writeFileAtomic(path.join(folder, SAMPLES_FILE), samples);
  await clock.save();
  await writeFileAtomic(path.join(folder, CELL_FILE), stringifySorted(record));
  await rm(training, { recursive: true, force: true });
  return true;
}

/** Bytes, [count, height, width, channels]: DDIM from the noise of the cell's seed, with the averaged weights. */
async function draw(folder: string, cell: Cell, settings: StudySettings, device: Device) {
  const generate = await pipeline('unconditional-image-generation', folder, { device });
  try {
    const parts: Uint8Array[] = [];
    const batches = generate.batches({
      count: settings.samples,
      batch_size: BATCH,
      num_inference_steps: settings.num_inference_steps,
      scheduler: new DDIMScheduler(generate.scheduler.config),
      // Other noise than that of the training, and the same for every weight.
      seed: 1000 + cell.seed,
    });
    for await (const { data } of batches) parts.push(Uint8Array.from(data));
    const { isotropy } = generate;
    if (!isotropy) throw new ConfigError(`${folder} does not say the isotropy of its model`);
    return { samples: Buffer.concat(parts), isotropy: isotropy.isotropy };
  } finally {
    await generate.dispose();
  }
}
