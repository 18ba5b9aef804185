// Writes sum(softsign(x) w) and its gradient as an ONNX file that any runtime can run.
import { writeFileSync } from 'node:fs';
import { Graph, gradients, mul, reduceSum, writeOnnx } from 'iso-diffusion/graph';
import { softsign } from './softsign.js';

const graph = new Graph('softsign');
const x = graph.input('x', 'float64', [4]);
const w = graph.constant('float64', [4], Float64Array.of(1, -2, 3, 0.5), 'w');
const loss = reduceSum(mul(softsign(x), w));
const [dx = loss] = gradients(loss, [x]);
graph.output('loss', loss);
graph.output('dx', dx);
writeFileSync('softsign.onnx', writeOnnx(graph));
