/**
 * Peak of the resident set that one run adds, in MiB, in a process of its own: `tsx step-memory.ts true|false`, with or
 * without declared sizes. Values of one shape are needed at the beginning and at the end, of another one in between.
 */
import * as ort from 'onnxruntime-node';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { encodeModel, modelProto } from '../../src/graph/onnx/write.ts';
import { concat, mul, reduceSum, reshape } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { hideShapes } from '../../src/runtime/ort/gradient-session.ts';

const ELEMENTS = 2 ** 20;
const COPIES = 12;

/** Needs `COPIES` values of the shape of `value` at once. */
function many(value: Value): Value {
  const copies = Array.from({ length: COPIES }, (_, i) => mul(value, scalarLike(value, 1 / (i + 1))));
  return reduceSum(concat(copies, 0), [0], { keepdims: true });
}

const graph = new Graph('phases');
const input = graph.input('x', 'float32', [1, ELEMENTS]);
const flat = many(input);
const square = many(reshape(flat, [1, 2, ELEMENTS / 2]));
graph.output('terms', many(reshape(square, [1, ELEMENTS])));

const proto = modelProto(graph);
const model = encodeModel(process.argv[2] === 'true' ? proto : hideShapes(proto));
// The memory of ended phases would otherwise be kept, and not be seen to be free.
const session = await ort.InferenceSession.create(model, {
  executionProviders: ['cpu'],
  logSeverityLevel: 3,
  enableCpuMemArena: false,
  enableMemPattern: false,
});
const feeds = { x: new ort.Tensor('float32', new Float32Array(ELEMENTS).fill(1), [1, ELEMENTS]) };
const before = process.resourceUsage().maxRSS;
const { terms } = await session.run(feeds);
const mebibytes = (process.resourceUsage().maxRSS - before) / 1024;
process.stdout.write(JSON.stringify({ mebibytes, first: Number(terms?.data[0]) }));
await session.release();
