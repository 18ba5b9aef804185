/**
 * A rank of a training that is evaluated: `tsx evaluating-rank.ts FOLDER BATCHES` trains a tiny U-Net with two batches a step on all
 * ranks together, BATCHES of them here, and draws and measures images meanwhile.
 */
import { EvaluationCallback } from '../../src/evaluation/callback/evaluation-callback.ts';
import { smallImageTrainer } from '../trainers/small-image-trainer.ts';

const [output_dir = '', batches = ''] = process.argv.slice(2);
const evaluation = new EvaluationCallback({
  every_steps: 3,
  num_inference_steps: 2,
  // More than go through the model at once, and not a multiple of it.
  samples: 36,
  keep_best: 'fid',
  metrics: { metrics: ['fid', 'kid', 'prdc'], extractor: 'raw-pixels', num_samples: 40, batch_size: 6, nearest_k: 3 },
  device: 'cpu',
});
const gradient_accumulation_steps = Number(batches);
await smallImageTrainer({ output_dir, max_steps: 7, gradient_accumulation_steps, disable_tqdm: true }, [
  evaluation,
]).train();
