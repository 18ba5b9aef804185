import { fileURLToPath } from 'node:url';
import { precisionRecallDensityCoverage } from '../src/metrics/prdc/prdc.ts';
import { RandomStream, STREAM } from '../src/random/random-stream.ts';
import { base64, printPeaks, printRatio, requirePython, startReference } from './harness.ts';
import { runPrdcPairs } from './prdc-pairs.ts';

const COUNT = 10_000;

/** PRDC of 10,000 x 10,000 points of two noisy Swiss rolls, against the scikit-learn computation of `prdc`. */
export async function run(): Promise<void> {
  requirePython(['numpy', 'sklearn.metrics']);
  const real = { data: swissRoll(0, 0.5), count: COUNT, dims: 2 };
  const fake = { data: swissRoll(1, 0.6), count: COUNT, dims: 2 };
  const reference = startReference(fileURLToPath(new URL('./prdc_reference.py', import.meta.url)));
  try {
    await reference.request({ command: 'load', real: base64(real.data), fake: base64(fake.data), dims: 2 });
    const result = await runPrdcPairs('prdc', reference, (options) =>
      precisionRecallDensityCoverage(real, fake, options),
    );
    printPeaks(result);
    printRatio('prdc', result.ratio);
  } finally {
    reference.close();
  }
}

/** The Swiss roll of the paper, shrunk to about [-1, 1]. */
function swissRoll(seed: number, noise: number): Float32Array {
  const stream = new RandomStream(seed, STREAM.dataset);
  const points = new Float32Array(COUNT * 2);
  for (let i = 0; i < COUNT; i++) {
    const angle = 1.5 * Math.PI * (1 + 2 * stream.uniform());
    points[2 * i] = (angle * Math.cos(angle) + noise * stream.normal()) / 15;
    points[2 * i + 1] = (angle * Math.sin(angle) + noise * stream.normal()) / 15;
  }
  return points;
}
