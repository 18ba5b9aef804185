/**
 * A small training run in a process of its own, for tests that kill it:
 * `tsx training-run.ts points|images|latents|autoencoder OUTPUT_DIR MAX_STEPS [resume]` prints `saved` after each checkpoint and ends with a digest of
 * the final weights, raw and averaged.
 */
import { createHash } from 'node:crypto';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { openTiny } from '../autoencoders/saved-autoencoder.ts';
import { smallAutoencoderTrainer } from './small-autoencoder-trainer.ts';
import { smallImageTrainer } from './small-image-trainer.ts';
import { smallTrainer } from './small-trainer.ts';

const [kind, output_dir = '', maxSteps = '', resume] = process.argv.slice(2);
const autoencoder = kind === 'latents' ? await openTiny() : undefined;
const makeTrainer = {
  points: smallTrainer,
  images: smallImageTrainer,
  latents: (...[args, callbacks]: Parameters<typeof smallImageTrainer>) =>
    smallImageTrainer(
      args,
      callbacks,
      0.1,
      { sample_size: 4, in_channels: 2, out_channels: 2 },
      {
        autoencoder,
        latents: { cache_dir: output_dir },
        noise_scheduler: new DDPMScheduler({ clip_sample: false }),
      },
    ),
  autoencoder: smallAutoencoderTrainer,
}[kind as 'points' | 'images' | 'latents' | 'autoencoder'];
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
