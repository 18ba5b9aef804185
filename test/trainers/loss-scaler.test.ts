import { expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import {
  hasCollapsed,
  lossScalerOf,
  lossScalerVector,
  nextLossScaler,
  nextLossScalerVector,
  splitLossScaler,
} from '../../src/trainers/step/loss-scaler.ts';

/*
 * What torch.amp.GradScaler does with its defaults (init_scale 65536, growth_factor 2, backoff_factor 0.5,
 * growth_interval 2000), from torch/aten/src/ATen/native/cuda/AmpKernels.cu, amp_update_scale_cuda_kernel: an overflow
 * halves the scale and sets the tracker to 0; the 2000th good step in a row doubles it, unless it would be infinite.
 */
const cases: { name: string; before: number[]; counts: boolean; after: number[] }[] = [
  { name: 'a good step', before: [65536, 0, 0], counts: true, after: [65536, 1, 0] },
  { name: 'the 1999th good step', before: [65536, 1998, 2], counts: true, after: [65536, 1999, 2] },
  { name: 'the 2000th good step', before: [65536, 1999, 2], counts: true, after: [131072, 0, 2] },
  { name: 'an overflow', before: [65536, 1999, 2], counts: false, after: [32768, 0, 3] },
  { name: 'growth beyond float32', before: [2 ** 127, 1999, 0], counts: true, after: [2 ** 127, 0, 0] },
];

it.each(cases)('$name, on the host and in a graph', async ({ before, counts, after }) => {
  const start = lossScalerOf(Float32Array.from(before));
  expect([...lossScalerVector(nextLossScaler(start, counts))]).toEqual(after);

  const graph = new Graph('scaler');
  const vector = graph.input('vector', 'float32', [3]);
  const finite = graph.input('finite', 'bool', []);
  graph.output('next', nextLossScalerVector(splitLossScaler(vector), finite));
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const { next } = await session.run({
    vector: hostTensor('float32', [3], Float32Array.from(before)),
    finite: hostTensor('bool', [], Uint8Array.of(counts ? 1 : 0)),
  });
  await session.release();
  expect(next?.data).toEqual(Float32Array.from(after));
});

it('starts at 65536, and means nothing any more after 33 overflows in a row', () => {
  let scaler = lossScalerOf();
  expect(scaler).toEqual({ scale: 65536, goodSteps: 0, skippedSteps: 0 });
  for (let i = 0; i < 32; i++) scaler = nextLossScaler(scaler, false);
  expect(hasCollapsed(scaler.scale)).toBe(false);
  expect(hasCollapsed(nextLossScaler(scaler, false).scale)).toBe(true);
});
