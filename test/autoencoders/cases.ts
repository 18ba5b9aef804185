import type { Autoencoder } from '../../src/autoencoders/index.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { elementCount } from '../../src/graph/types.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { hwnc } from '../../src/nn/hwnc.ts';
import { nchw, permuteAxes } from '../../src/nn/layout.ts';
import type { ParameterSpec } from '../../src/nn/parameters.ts';
import { hostTensor, Session, type TensorMap } from '../../src/runtime/session.ts';
import { shapeIn } from '../../src/trainers/step/loss-graph.ts';

export const layouts = { nchw, hwnc };
export type LayoutName = keyof typeof layouts;

/** |actual - expected| / |expected|; both sides compute in float32. */
export function relativeError(actual: ArrayLike<number> | undefined, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  return Math.hypot(...values.map((value, i) => value - (actual?.[i] ?? Number.NaN))) / Math.hypot(...values);
}

/** A graph with weights in torch's order as constants in that of the layout. */
export function graphWith(
  autoencoder: Autoencoder,
  order: LayoutName,
  weights: (spec: ParameterSpec, index: number) => Float32Array,
) {
  const layout = layouts[order];
  const graph = new Graph('case');
  const parameters = new Map(
    autoencoder.parameters.map((spec, index) => {
      const values = weights(spec, index);
      const inOrder = spec.isFilter ? permuteAxes(values, spec.shape, layout.filterAxes) : values;
      return [spec.name, graph.constant('float32', shapeIn(layout, spec), inOrder, spec.name)];
    }),
  );
  return { graph, parameters, context: new ForwardContext(parameters, { layout }) };
}

/** Runs a graph once on the cpu. */
export async function run(graph: Graph, feeds: (name: string) => Float32Array): Promise<TensorMap> {
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const tensors = graph.inputs.map(({ name, shape }): [string, ReturnType<typeof hostTensor>] => [
    name,
    hostTensor('float32', shape.map(Number), feeds(name)),
  ]);
  const outputs = await session.run(Object.fromEntries(tensors));
  await session.release();
  return outputs;
}

/** The numbers of test/fixtures/vae/make-references.py: in [-1, 1), from integers of 32 bits. */
export function noise(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    let x = Math.imul(i + 7919 * seed + 1, 0x9e3779b1);
    x = Math.imul(x ^ (x >>> 15), 0x85ebca77);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae3d);
    return ((x ^ (x >>> 16)) >>> 0) / 2147483648 - 1;
  });
}

/** The weights that `fill` of make-references.py makes of them. */
export function filledWeights({ name, shape }: ParameterSpec, index: number): Float32Array {
  const isWeight = shape.length > 1;
  const fanIn = elementCount(shape.slice(1));
  const scale = name.includes('embedding') ? 1 : isWeight ? (3 / fanIn) ** 0.5 : 0.2;
  const offset = !isWeight && name.endsWith('weight') ? 1 : 0;
  return noise(elementCount(shape), index).map((value) => offset + scale * value);
}
