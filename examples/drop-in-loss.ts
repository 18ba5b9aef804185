/**
 * The Iso-Diffusion loss in a training loop of one's own: plain arrays in, loss and gradient out.
 *
 *   npx tsx examples/drop-in-loss.ts
 *
 * The "framework" here is a linear noise predictor, eps-hat = slope * x_t + offset, trained by hand-written gradient
 * descent on points of standard deviation 0.5. Any framework fits in its place: hand `gradient` to its backward pass.
 */
import { isoDiffusionLoss, RandomStream } from 'iso-diffusion';

const BATCH = 256;
const LEARNING_RATE = 0.2;
/** One noise level is enough to see the loss at work: x_t = sqrt(0.5) x_0 + sqrt(0.5) noise. */
const ALPHA_CUMPROD = 0.5;

function train(lambda: number): void {
  const random = new RandomStream(0);
  let slope = 0;
  let offset = 0;
  for (let step = 0; step <= 60; step++) {
    const noise = random.fillNormal(new Float32Array(BATCH));
    const noisy = noise.map((e) => Math.sqrt(ALPHA_CUMPROD) * 0.5 * random.normal() + Math.sqrt(1 - ALPHA_CUMPROD) * e);
    const predicted_noise = noisy.map((x) => slope * x + offset);

    const { loss, base, isotropy, gradient } = isoDiffusionLoss({ predicted_noise, noise, lambda });

    // Chain rule through the model: d eps-hat / d slope = x_t, d eps-hat / d offset = 1.
    slope -= LEARNING_RATE * gradient.reduce((sum, g, i) => sum + g * (noisy[i] as number), 0);
    offset -= LEARNING_RATE * gradient.reduce((sum, g) => sum + g, 0);
    if (step % 20 === 0) {
      console.log(
        `lambda ${lambda}  step ${step}  loss ${loss.toFixed(4)}  mse ${base.toFixed(4)}  isotropy ${isotropy.toFixed(3)}`,
      );
    }
  }
}

train(0);
train(0.3);
