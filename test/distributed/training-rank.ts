/**
 * A rank of small runs, for tests that start several: `tsx training-rank.ts FOLDER MAX_STEPS BATCHES [resume]` trains points and
 * a U-Net with four batches a step on all ranks together, BATCHES of them here. Each rank prints a digest of its weights,
 * raw and averaged. `OTHER_RATE` is a learning rate for rank 1.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { world } from '../../src/distributed/world.ts';
import { smallImageTrainer } from '../trainers/small-image-trainer.ts';
import { smallTrainer } from '../trainers/small-trainer.ts';

const [folder = '', maxSteps = '', batches = '', resume] = process.argv.slice(2);
const { rank } = world();
const rate = rank === 1 && process.env.OTHER_RATE ? { learning_rate: Number(process.env.OTHER_RATE) } : {};
for (const [kind, makeTrainer] of Object.entries({ points: smallTrainer, images: smallImageTrainer })) {
  const args = {
    output_dir: path.join(folder, kind),
    max_steps: Number(maxSteps),
    per_device_train_batch_size: 2,
    gradient_accumulation_steps: Number(batches),
    disable_tqdm: true,
    ...rate,
  };
  const trainer = makeTrainer(args, [
    { onSave: ({ global_step }) => void process.stdout.write(`${kind} saved ${global_step}\n`) },
  ]);
  const { global_step, interrupted } = await trainer.train({ resume_from_checkpoint: resume });
  const digest = createHash('sha256');
  for (const ema of [false, true]) for (const weights of trainer.weights({ ema }).values()) digest.update(weights);
  if (!interrupted) process.stdout.write(`${kind} ${global_step} ${digest.digest('hex')}\n`);
  if (interrupted) process.exit(130);
}
