import { expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { registeredOps } from '../../src/graph/registry.ts';
import { float64Cases } from './gradient-cases.ts';
import { plainCases } from './plain-cases.ts';

/** Tested in a file of its own: conv-gradients.test.ts, and Gather, whose scatter has no float64, in gradients.test.ts. */
const testedElsewhere = ['Conv', 'ConvTranspose', 'Gather'];

it('every op with a gradient rule is among the ops that are differentiated in tests', () => {
  const tested = new Set(testedElsewhere);
  const record = (shapes: readonly (readonly number[])[], build: (graph: Graph) => unknown) => {
    const graph = new Graph('case');
    build(graph);
    expect(shapes.length).toBeGreaterThan(0);
    for (const { opType } of graph.nodes) tested.add(opType);
  };
  for (const { shapes, build } of float64Cases)
    record(shapes, (graph) => build(shapes.map((shape, i) => graph.input(`x${i}`, 'float64', shape))));
  for (const { shapes, build } of plainCases)
    record(shapes, (graph) => build(shapes.map((shape, i) => graph.input(`x${i}`, 'float32', shape))));
  const untested = registeredOps().filter(({ gradient, opType }) => gradient && !tested.has(opType));
  expect(untested.map(({ opType }) => opType)).toEqual([]);
});
