import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { groupNorm, identity, mul, reduceSum } from '../../src/graph/ops/index.ts';
import { applyOp } from '../../src/graph/registry.ts';
import { elementCount } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { epsilon, image, plainCases } from './plain-cases.ts';

function expectClose(actual: Float32Array | undefined, expected: Float64Array): void {
  expect(actual).toHaveLength(expected.length);
  const error = Math.hypot(...expected.map((value, i) => value - (actual?.[i] ?? Number.NaN)));
  // Ours runs in float32; the differences are good to 1e-9. 2e-5 leaves room for some dozens of roundings.
  expect(error).toBeLessThan(2e-5 * Math.hypot(...expected) + 1e-6);
}

describe.each(['any', 'cuda'] as const)(
  'ops of the U-Net for %s against plain float64 and its central differences',
  (target) => {
    it.each(plainCases)('$name', async ({ shapes, build, plain }) => {
      const graph = new Graph('case', undefined, target);
      const inputs = shapes.map((shape, i) => graph.input(`x${i}`, 'float32', shape));
      const y = build(inputs);
      const dy = graph.input('dy', 'float32', y.shape);
      graph.output('y', identity(y));
      gradients(reduceSum(mul(y, dy)), inputs).forEach((gradient, i) => {
        expect(gradient.shape).toEqual(shapes[i]);
        graph.output(`d${i}`, identity(gradient));
      });
      const stream = new RandomStream(5);
      // An offset of the mean, because the statistics must not depend on one.
      const point = shapes.map((shape) =>
        stream.fillNormal(new Float32Array(elementCount(shape))).map((value) => value + 0.5),
      );
      const weights = stream.fillNormal(new Float32Array(elementCount(y.shape)));
      const session = await Session.create(writeOnnx(graph), 'cpu');
      const feeds = point.map((data, i) => [`x${i}`, hostTensor('float32', shapes[i] ?? [], data)] as const);
      const outputs = await session.run({
        ...Object.fromEntries(feeds),
        dy: hostTensor('float32', y.shape.map(Number), weights),
      });

      const wide = point.map((data) => Float64Array.from(data));
      const loss = () => plain(wide).reduce((sum, value, i) => sum + value * (weights[i] as number), 0);
      expectClose(outputs.y?.data as Float32Array, plain(wide));
      for (const [i, data] of wide.entries()) {
        const numeric = data.map((kept, j) => {
          data[j] = kept + 1e-5;
          const above = loss();
          data[j] = kept - 1e-5;
          const below = loss();
          data[j] = kept;
          return (above - below) / 2e-5;
        });
        expectClose(outputs[`d${i}`]?.data as Float32Array, numeric);
      }
      await session.release();
    });
  },
);

it('refuses what is not supported by name', () => {
  const graph = new Graph('g');
  const x = graph.input('x', 'float32', image);
  const four = graph.input('four', 'float32', [4]);
  expect(() => groupNorm(x, 3, four, four, epsilon)).toThrow(/3 groups do not divide/);
  const scales = graph.constant('float32', [4], Float32Array.of(1, 1, 1.5, 2));
  expect(() => applyOp('Resize', [x, null, scales])).toThrow(/only the nearest/);
});
