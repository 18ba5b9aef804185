import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PointCloud } from '../src/metrics/metric.ts';
import { precisionRecallDensityCoverage } from '../src/metrics/prdc/prdc.ts';
import { RandomStream, STREAM } from '../src/random/random-stream.ts';
import { peakMemory, printRatio, requirePython, startReference } from './harness.ts';
import { runPrdcPairs } from './prdc-pairs.ts';

const DIMS = 2048;
const COUNT = 10_000;
/** The size of a published FID set: what the memory limit is about. */
const LARGE_COUNT = 50_000;
const LATENT_DIMS = 32;
const NEAREST_K = 5;

/** The time of PRDC of 10,000 x 10,000 features of 2,048 dimensions against the scikit-learn computation of `prdc`. */
export async function run(): Promise<void> {
  requirePython(['numpy', 'sklearn.metrics']);
  const real = features(0, COUNT);
  const fake = features(1, COUNT);
  const folder = await mkdtemp(path.join(tmpdir(), 'prdc-2048-'));
  const reference = startReference(fileURLToPath(new URL('./prdc_reference.py', import.meta.url)));
  try {
    const [real_path, fake_path] = [path.join(folder, 'real.f32'), path.join(folder, 'fake.f32')];
    await writeFile(real_path, real.data);
    await writeFile(fake_path, fake.data);
    await reference.request({ command: 'load', real_path, fake_path, dims: DIMS });
    const result = await runPrdcPairs('prdc-2048', reference, (options) =>
      precisionRecallDensityCoverage(real, fake, options),
    );
    printRatio('prdc-2048', result.ratio);
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** The memory of this process with 50,000 x 50,000 of them, the features and Node.js included. It takes some minutes. */
export async function runLargeSets(): Promise<void> {
  const real = features(2, LARGE_COUNT);
  const fake = features(3, LARGE_COUNT);
  const start = performance.now();
  const metrics = await precisionRecallDensityCoverage(real, fake, { nearest_k: NEAREST_K });
  const seconds = (performance.now() - start) / 1000;
  console.log(`${LARGE_COUNT} x ${LARGE_COUNT} in ${seconds.toFixed(1)} s: ${JSON.stringify(metrics)}`);
  const peak = peakMemory();
  console.log(`peak MB ${peak === undefined ? 'not measured' : (peak / 1e6).toFixed(0)}`);
}

/**
 * Like features of a network: not negative, near a surface of 32 dimensions, with noise in all 2,048. The surface is
 * the same for every seed.
 */
function features(seed: number, count: number): PointCloud {
  const basis = new RandomStream(0, STREAM.init).fillNormal(new Float32Array(LATENT_DIMS * DIMS));
  const stream = new RandomStream(seed, STREAM.dataset);
  const data = new Float32Array(count * DIMS);
  const row = new Float64Array(DIMS);
  for (let i = 0; i < count; i++) {
    row.fill(0);
    for (let k = 0; k < LATENT_DIMS; k++) {
      const latent = stream.normal();
      for (let d = 0; d < DIMS; d++) row[d] = (row[d] as number) + latent * (basis[k * DIMS + d] as number);
    }
    for (let d = 0; d < DIMS; d++) {
      data[i * DIMS + d] = Math.max(0, (row[d] as number) / Math.sqrt(LATENT_DIMS) + 0.3 * stream.uniform());
    }
  }
  return { data, count, dims: DIMS };
}
