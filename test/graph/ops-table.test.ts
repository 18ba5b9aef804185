import { expect, it } from 'vitest';
import { elementwiseRules } from '../../src/graph/onnx/lowering/elementwise-rules.ts';
import { foldingRules } from '../../src/graph/onnx/lowering/folding.ts';
import { layerRules } from '../../src/graph/onnx/lowering/layer-rules.ts';
import { shapeRules } from '../../src/graph/onnx/lowering/shape-rules.ts';
import '../../src/graph/ops/index.ts';
import { registeredOps } from '../../src/graph/registry.ts';
import '../../src/runtime/tfjs/graph-interpreter.ts';
import { findTfOp } from '../../src/runtime/tfjs/tf-op.ts';

const lowered: Readonly<Record<string, unknown>> = { ...shapeRules, ...layerRules, ...elementwiseRules };

function tfjsHas(name: string): boolean {
  const [opType = name, domain = ''] = name.split(':').toReversed();
  return findTfOp({ name, opType, domain, inputs: [], attributes: {}, outputs: [] }) !== undefined;
}

function table(): string {
  const ops = new Map(registeredOps().map((op) => [op.opType, op]));
  const names = [...new Set([...ops.keys(), ...Object.keys(lowered), ...Object.keys(foldingRules)])].sort();
  const mark = (has: boolean) => (has ? 'yes' : '');
  const rows = names.map((name) => [
    name,
    mark(ops.has(name)),
    mark(ops.get(name)?.gradient !== undefined),
    mark(Object.hasOwn(lowered, name)),
    mark(Object.hasOwn(foldingRules, name)),
    mark(tfjsHas(name)),
  ]);
  const head = ['op', 'node', 'gradient', 'rewritten', 'computed', 'tfjs'];
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

// `npx vitest run test/graph/ops-table.test.ts -u` writes the file anew.
it('docs/ops.md lists every op, and what is known of it', async () => {
  await expect(`# Ops

What this package can do with each ONNX op. \`test/graph/ops-table.test.ts\` writes this file.

- node: \`apply\` and \`readOnnx\` can add it to a graph.
- gradient: \`gradients\` can differentiate it.
- rewritten: \`readOnnx\` replaces it with other ops, or converts it from other operator sets to opset 18.
- computed: \`readOnnx\` computes it when its inputs are known.
- tfjs: the engine \`tfjs\` can run it.

To add an op from outside, call \`defineOp\` of \`iso-diffusion/graph\`.

${table()}
`).toMatchFileSnapshot('../../docs/ops.md');
});
