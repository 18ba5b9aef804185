import { parseArgs } from 'node:util';
import { Graph, type GraphNode, type GraphTarget, type Value } from '../src/graph/graph.ts';
import { reshape } from '../src/graph/ops/index.ts';
import { bytesPerElement, elementCount, fixedShape } from '../src/graph/types.ts';
import { isoLoss } from '../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { mapBatch } from '../src/trainers/step/batch.ts';
import { declareBatch } from '../src/trainers/step/loss-graph.ts';
import { stepSettings } from '../src/trainers/step/settings.ts';
import {
  declareScalars,
  declareState,
  flatGradients,
  lossScalerIn,
  outputState,
  stateVectors,
  updateStep,
  vectorsOf,
} from '../src/trainers/step/update.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';
import { printRatio } from './harness.ts';

/** Ops that only give a tensor another shape or name. */
const FREE = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Identity']);

/**
 * The bytes that the nodes of one training step of the 35.7 M-parameter DDPM U-Net read and write at `--batch` 128, by op:
 * each node reads its inputs once and writes its outputs once. GPUs are bound by this sum. Nothing is run. With
 * `--mixed-precision fp16` the step is that of float16.
 */
export async function run(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      batch: { type: 'string', default: '128' },
      shapes: { type: 'boolean', default: false },
      'mixed-precision': { type: 'string', default: 'no' },
    },
  });
  const batch = Number(values.batch);
  const precision = values['mixed-precision'] === 'fp16' ? 'fp16' : 'no';
  const rows = new Map<string, { nodes: number; bytes: number; flops: number }>();
  const graph = stepOf(batch, 'cuda', precision);
  const fused = fusedValues(graph);
  for (const node of graph.nodes) {
    const key = values.shapes ? `${node.opType} ${node.outputs[0]?.shape.join('x')}` : node.opType;
    const row = rows.get(key) ?? { nodes: 0, bytes: 0, flops: 0 };
    rows.set(key, {
      nodes: row.nodes + 1,
      bytes: row.bytes + trafficOf(node, fused),
      flops: row.flops + flopsOf(node),
    });
  }
  console.log('op                 nodes       GB    GFLOP');
  const sorted = [...rows].sort(([, a], [, b]) => b.bytes - a.bytes);
  for (const [op, { nodes, bytes, flops }] of values.shapes ? sorted.slice(0, 60) : sorted)
    console.log(`${op.padEnd(18)} ${pad(nodes, 5)} ${pad(bytes / 1e9, 8, 2)} ${pad(flops / 1e9, 8, 1)}`);
  const total = sorted.reduce((sum, [, { bytes }]) => sum + bytes, 0);
  const flops = sorted.reduce((sum, [, row]) => sum + row.flops, 0);
  console.log(`batch ${batch}: ${(total / 1e9).toFixed(1)} GB and ${(flops / 1e12).toFixed(3)} TFLOP a step`);
  const general = stepOf(batch, 'any', precision);
  const inGeneral = fusedValues(general);
  const before = general.nodes.reduce((sum, node) => sum + trafficOf(node, inGeneral), 0);
  console.log(`in the form for any device: ${(before / 1e9).toFixed(1)} GB`);
  printRatio('traffic', before / total);
}

const pad = (value: number, width: number, digits = 0) => value.toFixed(digits).padStart(width);

const bytesOf = (value: Value | null) => (value ? bytesPerElement(value.dtype) * elementCount(value.shape) : 0);

/**
 * Values that onnxruntime does not make, because it fuses their node with the only one that reads them: a Transpose of the
 * last two axes into a product, a Sigmoid into the Mul by its input (QuickGelu).
 */
function fusedValues({ nodes }: Graph): ReadonlySet<Value> {
  const readers = new Map<Value, GraphNode[]>();
  for (const node of nodes)
    for (const input of node.inputs) if (input) readers.set(input, [...(readers.get(input) ?? []), node]);
  const onlyReader = (value: Value | undefined) => {
    const [reader, ...others] = (value && readers.get(value)) ?? [];
    return others.length === 0 ? reader : undefined;
  };
  /** Whether the node is the sigmoid of x sigmoid(a x). */
  const gates = ({ opType, inputs: [x], outputs: [y] }: GraphNode) => {
    if (opType !== 'Sigmoid') return false;
    const product = onlyReader(y);
    const unscaled = x?.producer?.opType === 'Mul' && onlyReader(x) ? x.producer.inputs : [];
    return product?.opType === 'Mul' && [x, ...unscaled].some((one) => one && product.inputs.includes(one));
  };
  const isFused = (node: GraphNode) => {
    const {
      opType,
      outputs: [y],
      attributes,
    } = node;
    const reader = onlyReader(y);
    if (!reader) return false;
    if (gates(node)) return true;
    if (opType === 'Mul' && gates(reader) && node.inputs.some((input) => input?.data && input.shape.length === 0))
      return true;
    const perm = opType === 'Transpose' && attributes.perm?.kind === 'ints' ? attributes.perm.value : [];
    const rank = perm.length;
    const swaps = perm.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i));
    return rank > 1 && swaps && reader.opType === 'MatMul';
  };
  return new Set(nodes.filter(isFused).flatMap(({ outputs }) => outputs));
}

/** A node that picks from its input reads what it writes. */
function trafficOf({ opType, inputs, outputs }: GraphNode, fused: ReadonlySet<Value>): number {
  if (FREE.has(opType) || outputs.some((value) => fused.has(value))) return 0;
  const written = outputs.reduce((sum, value) => sum + bytesOf(value), 0);
  if (['Slice', 'Gather', 'Split'].includes(opType)) return 2 * written;
  return written + [...new Set(inputs)].reduce((sum, value) => sum + bytesOf(value), 0);
}

/** Of products and convolutions. */
function flopsOf({ opType, inputs: [a, b], outputs: [y], attributes }: GraphNode): number {
  if (!a || !b || !y) return 0;
  const [weight, output] = [b.shape, elementCount(y.shape)];
  const perGroup = elementCount(weight.slice(1));
  if (opType === 'Conv') return 2 * output * perGroup;
  if (opType === 'ConvTranspose') return 2 * elementCount(a.shape) * perGroup;
  if (opType === 'MatMul') return 2 * output * Number(a.shape.at(-1));
  const isTransposed = attributes.transA?.value === 1;
  return opType === 'Gemm' ? 2 * output * Number(fixedShape(a.shape)[isTransposed ? 0 : 1]) : 0;
}

/** A step of one batch, as it runs inside the Loop on cuda. */
function stepOf(batchSize: number, target: GraphTarget, mixed_precision: 'no' | 'fp16'): Graph {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batchSize,
    optim: 'adamw',
    use_ema: true,
    mixed_precision,
  });
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
  const settings = stepSettings({ model, loss: isoLoss({ lambda: 0.05 }), noise_scheduler: new DDPMScheduler() }, args);
  const graph = new Graph('training_step', undefined, target);
  const vectors = stateVectors(settings);
  const state = declareState(graph, vectors);
  const { batch, inputs } = declareBatch(graph, settings);
  const lossScale = lossScalerIn(vectors, state)?.scale;
  const parameters = vectorsOf('parameters', vectors, state);
  const { flat, terms } = flatGradients(settings, parameters, batch, { ...inputs, lossScale });
  const scalars = mapBatch(declareScalars(graph, 1), (value) => reshape(value, []));
  const { next, metrics } = updateStep(settings, vectors, state, flat, terms.values, scalars);
  outputState(graph, vectors, next);
  graph.output('metrics', metrics);
  return graph;
}
