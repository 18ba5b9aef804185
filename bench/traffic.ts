import { parseArgs } from 'node:util';
import { FREE_OPS, nodeFlops } from '../src/graph/cost.ts';
import { Graph, type GraphNode, type GraphTarget, type Value } from '../src/graph/graph.ts';
import { reshape } from '../src/graph/ops/index.ts';
import { bytesPerElement, elementCount } from '../src/graph/types.ts';
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
  const keyOf = ({ opType, outputs: [y] }: GraphNode) => (values.shapes ? `${opType} ${y?.shape.join('x')}` : opType);
  const [cuda, any] = (['cuda', 'any'] as const).map((target) => countOf(stepOf(batch, target, precision), keyOf));
  const ops = [...new Set([...(cuda?.keys() ?? []), ...(any?.keys() ?? [])])];
  const bytes = (rows: Rows | undefined, op: string) => (rows?.get(op)?.bytes ?? 0) / 1e9;
  const sorted = ops.toSorted((a, b) => bytes(cuda, b) + bytes(any, b) - bytes(cuda, a) - bytes(any, a));
  const width = values.shapes ? 40 : 20;
  console.log(`${''.padEnd(width)} for cuda              for any device`);
  console.log(`${'op'.padEnd(width)} nodes    GB    GFLOP nodes    GB`);
  for (const op of values.shapes ? sorted.slice(0, 60) : sorted) {
    const { nodes = 0, flops = 0 } = cuda?.get(op) ?? {};
    const own = `${pad(nodes, 5)} ${pad(bytes(cuda, op), 6, 2)} ${pad(flops / 1e9, 7, 1)}`;
    console.log(`${op.padEnd(width)} ${own} ${pad(any?.get(op)?.nodes ?? 0, 5)} ${pad(bytes(any, op), 6, 2)}`);
  }
  const [now = 0, before = 0] = [cuda, any].map((rows) => ops.reduce((sum, op) => sum + bytes(rows, op), 0));
  console.log(`batch ${batch}: ${now.toFixed(1)} GB a step for cuda, ${before.toFixed(1)} GB for any device`);
  printRatio('traffic', before / now);
}

type Rows = ReadonlyMap<string, { readonly nodes: number; readonly bytes: number; readonly flops: number }>;

/** What the nodes of a graph read, write and multiply, by the key of each. */
function countOf(graph: Graph, keyOf: (node: GraphNode) => string): Rows {
  const rows = new Map<string, { nodes: number; bytes: number; flops: number }>();
  const fused = fusedValues(graph);
  for (const node of withoutRepetitions(graph.nodes)) {
    const { nodes, bytes, flops } = rows.get(keyOf(node)) ?? { nodes: 0, bytes: 0, flops: 0 };
    rows.set(keyOf(node), {
      nodes: nodes + 1,
      bytes: bytes + trafficOf(node, fused),
      flops: flops + nodeFlops(node),
    });
  }
  return rows;
}

/** Without nodes that another one equals: onnxruntime runs one of them. */
function withoutRepetitions(nodes: readonly GraphNode[]): GraphNode[] {
  const names = new Map<Value, string>();
  const nameOf = (value: Value | null) => value && (names.get(value) ?? value.name);
  const first = new Map<string, GraphNode>();
  return nodes.filter((node) => {
    const key = JSON.stringify([node.opType, node.inputs.map(nameOf), node.attributes]);
    const known = first.get(key);
    if (!known) first.set(key, node);
    else for (const [i, output] of node.outputs.entries()) names.set(output, nameOf(known.outputs[i] ?? null) ?? '');
    return !known;
  });
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
  if (FREE_OPS.has(opType) || outputs.some((value) => fused.has(value))) return 0;
  const written = outputs.reduce((sum, value) => sum + bytesOf(value), 0);
  if (['Slice', 'Gather', 'Split'].includes(opType)) return 2 * written;
  return written + [...new Set(inputs)].reduce((sum, value) => sum + bytesOf(value), 0);
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
