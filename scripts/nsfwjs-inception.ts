/**
 * Converts the Inception v3 inside the npm package nsfwjs 4.3.0 (MIT, weights quantised to 8 bits) to an ONNX feature
 * extractor: real learned features of images without a download from anywhere but npm. They are NOT the features of
 * the FID: figures compare among themselves only.
 *
 *     npx tsx scripts/nsfwjs-inception.ts [--output file.onnx] [--tarball nsfwjs-4.3.0.tgz]
 *     iso-diffusion evaluate --extractor nsfwjs-inception-v3 ...
 *
 * Outputs: `2048`, the pooled features; `logits` of nsfwjs's 5 classes; `probabilities`.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { extractorsFolder, NSFWJS_EXTRACTOR } from '../src/evaluation/extractors/published-extractors.ts';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { writeOnnx } from '../src/graph/onnx/write.ts';
import { nsfwjsGraph, readNsfwjsInception } from './tfjs-layers/nsfwjs.ts';

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { output: { type: 'string' }, tarball: { type: 'string' } } });
  const output = values.output ?? path.join(extractorsFolder(), `${NSFWJS_EXTRACTOR}.onnx`);
  const bytes = writeOnnx(nsfwjsGraph(await readNsfwjsInception(values.tarball)));
  await writeFileAtomic(output, bytes);
  console.log(`written: ${output}`);
  console.log(`sha256:  ${createHash('sha256').update(bytes).digest('hex')}`);
  console.log(`use it:  iso-diffusion evaluate --extractor ${values.output ?? NSFWJS_EXTRACTOR} ...`);
}

await main();
