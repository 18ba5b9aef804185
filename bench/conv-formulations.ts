/**
 * `npx tsx bench/conv-formulations.ts [batch] [device]`: times every formulation of the gradients of the convolutions
 * of the 35.7 M-parameter DDPM U-Net, by shape. src/graph/ops/conv/gradients.ts chooses by these numbers.
 */
import { Graph, type Value } from '../src/graph/graph.ts';
import { writeOnnx } from '../src/graph/onnx/write.ts';
import { convInputGradient, convWeightGradient } from '../src/graph/ops/conv/gradients.ts';
import { conv2d } from '../src/graph/ops/index.ts';
import { elementCount } from '../src/graph/types.ts';
import { parseDevice, resolveDevice } from '../src/runtime/device.ts';
import { hostTensor, Session } from '../src/runtime/session.ts';
import { median } from './harness.ts';

const batch = Number(process.argv[2] ?? 4);
const device = await resolveDevice(parseDevice(process.argv[3] ?? 'cpu'));

/** Input channels, output channels, side, kernel. */
const shapes = [
  [128, 128, 32, 3],
  [256, 128, 32, 3],
  [384, 128, 32, 3],
  [256, 256, 16, 3],
  [512, 256, 16, 3],
  [256, 256, 8, 3],
  [512, 256, 8, 3],
  [256, 256, 4, 3],
  [512, 256, 4, 3],
  [3, 128, 32, 3],
  [128, 3, 32, 3],
  [256, 128, 32, 1],
  [512, 256, 8, 1],
] as const;

/** Median milliseconds of a graph over inputs of one magnitude. */
async function time(build: (inputs: (name: string, shape: number[]) => Value) => Value): Promise<number> {
  const graph = new Graph('case');
  const feeds: Record<string, ReturnType<typeof hostTensor>> = {};
  graph.output(
    'result',
    build((name, shape) => {
      feeds[name] = hostTensor('float32', shape, new Float32Array(elementCount(shape)).fill(0.01));
      return graph.input(name, 'float32', shape);
    }),
  );
  const session = await Session.create(writeOnnx(graph), device, { deviceOutputs: ['result'] });
  const times: number[] = [];
  for (let run = 0; run < 15; run++) {
    const start = performance.now();
    const { result } = await session.run(feeds);
    times.push(performance.now() - start);
    result?.dispose();
  }
  await session.release();
  return median(times.slice(3));
}

for (const [channels, filters, side, kernel] of shapes) {
  const x = [batch, channels, side, side];
  const y = [batch, filters, side, side];
  const weight = [filters, channels, kernel, kernel];
  const edge = (kernel - 1) / 2;
  const geometry = { strides: [1, 1], pads: [edge, edge, edge, edge], dilations: [1, 1], group: 1 } as const;
  const rate = (milliseconds: number) => {
    const gigaflops = (2 * elementCount(y) * channels * kernel * kernel) / milliseconds / 1e6;
    return `${milliseconds.toFixed(2)} ms (${gigaflops.toFixed(0)})`;
  };
  const columns: string[] = [];
  columns.push(
    `forward ${rate(await time((input) => conv2d(input('x', x), input('w', weight), undefined, geometry)))}`,
  );
  for (const formulation of ['conv-transpose', 'flipped-conv', 'product'] as const) {
    if (formulation === 'product' && kernel > 1) continue;
    const milliseconds = await time((input) =>
      convInputGradient(input('dy', y), input('w', weight), x, geometry, formulation),
    );
    columns.push(`dx ${formulation} ${rate(milliseconds)}`);
  }
  for (const formulation of ['columns', 'response-columns', 'transposed-conv'] as const) {
    const milliseconds = await time((input) =>
      convWeightGradient(input('dy', y), input('x', x), weight, geometry, formulation),
    );
    columns.push(`dw ${formulation} ${rate(milliseconds)}`);
  }
  console.log(`${channels}->${filters} ${side}x${side} k${kernel}: ${columns.join(', ')}`);
}
