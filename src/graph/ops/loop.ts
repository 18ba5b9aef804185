import { GraphError } from '../../errors.ts';
import { Graph, type Value } from '../graph.ts';
import { applyOp, defineOp } from '../registry.ts';
import { formatShape, formatType, sameShape, toTensorData } from '../types.ts';

defineOp({
  opType: 'Loop',
  infer: ({ inputs, attributes: { body }, where }) => {
    if (body?.kind !== 'graph') throw new GraphError(`${where}: the attribute 'body' is missing`);
    const carried = inputs.length - 2;
    const trips = inputs[0];
    const tripCount = trips?.data ? Number(trips.data[0]) : `${body.value.name}_trips`;
    return body.value.outputs.slice(1).map(({ value }, index) => ({
      dtype: value.dtype,
      shape: index < carried ? value.shape : [tripCount, ...value.shape],
    }));
  },
});

/** What one trip of a `loop` gives. */
export interface LoopBody {
  /** The next values of the carried state, of the same types. */
  readonly state: readonly Value[];
  /** Values of each trip, which are stacked along a new first axis; default none. */
  readonly perTrip?: readonly Value[] | undefined;
}

/**
 * Runs `body` `trips` times in one ONNX Loop. The body may use any value of the enclosing graph.
 *
 * @param trips int64 scalar: the number of trips.
 * @param state the initial carried values.
 * @param body builds one trip: gets its graph, the trip's index (int64 scalar) and the carried values.
 * @returns the final state, and the per-trip values stacked along a first axis.
 * @throws {GraphError} when the body changes the type of a carried value.
 * @example
 * // x doubled `trips` times.
 * const [last] = loop(trips, [x], (_graph, _trip, state) => ({ state: state.map((value) => add(value, value)) })).state;
 */
export function loop(
  trips: Value,
  state: readonly Value[],
  body: (graph: Graph, trip: Value, state: Value[]) => LoopBody,
): {
  /** The final values of the carried state. */
  state: Value[];
  /** The values of each trip, stacked. */
  perTrip: Value[];
} {
  const graph = trips.graph;
  const name = `${graph.name}_loop_${graph.nodes.filter(({ opType }) => opType === 'Loop').length}`;
  const bodyGraph = new Graph(`${name}_body`, graph);
  const trip = bodyGraph.input(`${name}_trip`, 'int64', []);
  const condition = bodyGraph.input(`${name}_condition`, 'bool', []);
  const carried = state.map((value) => bodyGraph.input(`${name}_${value.name}`, value.dtype, value.shape));
  const built = body(bodyGraph, trip, carried);

  built.state.forEach((next, index) => {
    const previous = state[index];
    if (!previous || next.dtype !== previous.dtype || !sameShape(next.shape, previous.shape)) {
      throw new GraphError(
        `loop: carried value ${index} changes from ${previous?.dtype} ${formatShape(previous?.shape ?? [])} to ${formatType(next)}`,
      );
    }
  });
  const results = [condition, ...built.state, ...(built.perTrip ?? [])];
  results.forEach((value, index) => {
    bodyGraph.output(`${name}_body_out_${index}`, ownedBy(bodyGraph, value));
  });

  const proceed = graph.constant('bool', [], toTensorData('bool', [1]));
  const outputs = applyOp('Loop', [trips, proceed, ...state], {
    attributes: { body: { kind: 'graph', value: bodyGraph } },
    outputCount: results.length - 1,
    graph,
  });
  return { state: outputs.slice(0, state.length), perTrip: outputs.slice(state.length) };
}

/** A body's output must be computed by the body itself: an input or an outer value is passed through Identity. */
function ownedBy(graph: Graph, value: Value): Value {
  if (value.producer && value.graph === graph) return value;
  const [copy] = applyOp('Identity', [value], { graph });
  return copy ?? value;
}
