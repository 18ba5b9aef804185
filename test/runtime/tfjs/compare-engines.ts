import { gradients } from '../../../src/graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../../src/graph/graph.ts';
import { identity, mul, reduceSum, reshape } from '../../../src/graph/ops/index.ts';
import { elementCount, fixedShape } from '../../../src/graph/types.ts';
import { RandomStream } from '../../../src/random/random-stream.ts';
import { GraphInterpreter } from '../../../src/runtime/tfjs/graph-interpreter.ts';
import { asTfjs, disposeAll, type TfTensor } from '../../../src/runtime/tfjs/tf-module.ts';
import { runGraph } from '../../models/run-graph.ts';
import { tf as module } from './load-tf.ts';

const tf = asTfjs(module);

export interface OpCase {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  readonly build: (inputs: Value[]) => Value;
  readonly domain?: ((normal: number) => number) | undefined;
}

/** The op's output, then the gradient of a random weighting of it with respect to each input. */
export type Results = readonly number[][];

interface Built {
  readonly graph: Graph;
  readonly inputs: Value[];
  readonly output: Value;
  readonly loss: Value;
  readonly point: Float32Array[];
}

function build({ shapes, build, domain = (x) => x }: OpCase): Built {
  const graph = new Graph('case');
  const inputs = shapes.map((shape, i) => graph.input(`x${i}`, 'float32', shape));
  const output = build(inputs);
  const count = elementCount(output.shape);
  const weights = new RandomStream(7).fillNormal(new Float32Array(count));
  const weighted = mul(reshape(output, [count]), graph.constant('float32', [count], weights, 'weights'));
  const stream = new RandomStream(3);
  const point = shapes.map((shape) => stream.fillNormal(new Float32Array(elementCount(shape))).map((x) => domain(x)));
  return { graph, inputs, output, loss: reduceSum(weighted), point };
}

/** By onnxruntime, with the gradient rules of this package. */
export async function byOnnxruntime(test: OpCase): Promise<Results> {
  const { graph, inputs, output, loss, point } = build(test);
  graph.output('y', identity(output));
  gradients(loss, inputs).forEach((gradient, i) => {
    graph.output(`d${i}`, identity(gradient));
  });
  const feeds = point.map((data, i) => [`x${i}`, { dtype: 'float32', shape: test.shapes[i] ?? [], data }] as const);
  const outputs = await runGraph(graph, Object.fromEntries(feeds));
  return ['y', ...inputs.map((_, i) => `d${i}`)].map((name) => outputs[name]?.data ?? []);
}

/** By tfjs, differentiated by tfjs. */
export async function byTfjs(test: OpCase): Promise<Results> {
  const { inputs, output, loss, point } = build(test);
  const interpreter = GraphInterpreter.compile(tf, [loss, output]);
  const tensors = tf.tidy(() => {
    let y: TfTensor | undefined;
    const at = point.map((data, i) => tf.tensor(data, fixedShape(inputs[i]?.shape ?? []), 'float32'));
    const { grads } = tf.valueAndGrads((...xs) => {
      const [value, result] = interpreter.run(new Map(inputs.map((x, i) => [x, xs[i] as TfTensor])));
      y = tf.keep(result as TfTensor);
      return value as TfTensor;
    })(at);
    return [y as TfTensor, ...grads];
  });
  const results: number[][] = [];
  for (const tensor of tensors) results.push(Array.from((await tensor.data()) as Float32Array));
  disposeAll(tensors);
  interpreter.dispose();
  return results;
}
