import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { DeviceError } from '../../src/errors.ts';
import { createBlockGemm } from '../../src/metrics/linalg/block-gemm.ts';
import { plainBlockProducts } from '../../src/metrics/linalg/products.ts';
import type { Prdc } from '../../src/metrics/prdc/counts.ts';
import { precisionRecallDensityCoverage } from '../../src/metrics/prdc/prdc.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

function normalCloud(seed: number, count: number, dims: number) {
  return { data: new RandomStream(seed).fillNormal(new Float32Array(count * dims)), count, dims };
}

test('the values of the prdc package, in low and high dimension', async () => {
  const fixtures = JSON.parse(readFileSync(new URL('../fixtures/metrics/prdc.json', import.meta.url), 'utf8')) as {
    nearest_k: number;
    dims: number;
    real: number[];
    fake: number[];
    expected: Prdc;
  }[];
  for (const { nearest_k, dims, real, fake, expected } of fixtures) {
    const cloud = (values: number[]) => ({
      data: Float32Array.from(values),
      count: values.length / dims,
      dims,
    });
    const actual = await precisionRecallDensityCoverage(cloud(real), cloud(fake), { nearest_k });
    expect({ ...actual, density: 0 }).toEqual({ ...expected, density: 0 });
    // numpy rounds its mean otherwise: one unit in the last place.
    expect(Math.abs(actual.density - expected.density)).toBeLessThanOrEqual(2 ** -52 * expected.density);
  }
});

test('several blocks of float32 products give what float64 products give', async () => {
  const [real, fake] = [normalCloud(1, 2100, 64), normalCloud(2, 1500, 64)];
  const onDevice = await precisionRecallDensityCoverage(real, fake, { device: 'cpu' });
  expect(onDevice).toEqual(await precisionRecallDensityCoverage(real, fake, { block_products: plainBlockProducts }));
});

test('the product is within its stated roundoff of the float64 product', async () => {
  const gemm = await createBlockGemm('cpu');
  const [a, b] = [normalCloud(1, 37, 300), normalCloud(2, 21, 300)];
  const product = await gemm.multiply(a.data, a.count, b.data, b.count, a.dims);
  const exact = await plainBlockProducts.multiply(a.data, a.count, b.data, b.count, a.dims);
  await gemm.dispose();
  const row = (c: typeof a, i: number) => c.data.subarray(i * c.dims, (i + 1) * c.dims);
  for (let i = 0; i < a.count; i++) {
    for (let j = 0; j < b.count; j++) {
      const norms = Math.hypot(...row(a, i)) * Math.hypot(...row(b, j));
      const error = Math.abs((product[i * b.count + j] as number) - (exact[i * b.count + j] as number));
      // Higham's worst case, which the decisions of PRDC rest on.
      expect(error).toBeLessThanOrEqual(a.dims * gemm.roundoff * norms);
    }
  }
  expect(product).toHaveLength(37 * 21);
});

test('another device gives the values of the cpu, or a DeviceError where it is missing', async () => {
  const points = normalCloud(1, 20, 12);
  const expected = await precisionRecallDensityCoverage(points, points);
  for (const device of ['cuda', 'webgpu'] as const) {
    const result = await precisionRecallDensityCoverage(points, points, { device }).catch((error) => error);
    if (!(result instanceof DeviceError)) expect(result).toEqual(expected);
  }
});
