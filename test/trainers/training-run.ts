/**
 * A small training run in a process of its own, for tests that kill it:
 * `tsx training-run.ts points|images OUTPUT_DIR MAX_STEPS [resume]` prints `saved` after each checkpoint and ends with a digest of
 * the final weights, raw and averaged.
 */
import { createHash } from 'node:crypto';
import { smallImageTrainer } from './small-image-trainer.ts';
import { smallTrainer } from './small-trainer.ts';

const [kind, output_dir = '', maxSteps = '', resume] = process.argv.slice(2);
const makeTrainer = kind === 'images' ? smallImageTrainer : smallTrainer;
const trainer = makeTrainer({ output_dir, max_steps: Number(maxSteps) }, [
  {
    onSave: (state) => {
      process.stdout.write(`saved ${state.global_step}\n`);
    },
  },
]);
const { interrupted } = await trainer.train({ resume_from_checkpoint: resume });
const digest = createHash('sha256');
for (const ema of [false, true]) for (const weights of trainer.weights({ ema }).values()) digest.update(weights);
process.stdout.write(`${interrupted ? 'interrupted' : 'done'} ${digest.digest('hex')}\n`);
