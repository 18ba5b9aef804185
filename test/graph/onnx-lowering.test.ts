import { describe, expect, it } from 'vitest';
import { OnnxFormatError } from '../../src/errors.ts';
import { readOnnx } from '../../src/graph/onnx/read.ts';
import { ATTRIBUTE_TYPE, type NodeProto } from '../../src/graph/onnx/schema.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { elementCount } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { type Contents, floats, ints, node, onnxFile, scalarInt } from './onnx-nodes.ts';

type Attributes = NonNullable<Parameters<typeof node>[3]>;

interface Case {
  readonly name: string;
  readonly opset: number;
  readonly x?: number[] | undefined;
  readonly nodes: NodeProto[];
  readonly initializers?: Record<string, Contents> | undefined;
}

/** One node from x, with further inputs as initializers. */
function single(
  name: string,
  opset: number,
  opType: string,
  options: {
    x?: number[] | undefined;
    inputs?: string[] | undefined;
    attributes?: Attributes | undefined;
    initializers?: Record<string, Contents> | undefined;
    domain?: string | undefined;
  } = {},
): Case {
  const { inputs = ['x', ...Object.keys(options.initializers ?? {})], attributes, initializers, x } = options;
  return { name, opset, x, initializers, nodes: [node(opType, inputs, ['y'], attributes, options.domain)] };
}

const random = new RandomStream(11);
const weights = (...shape: number[]): Contents => ({
  shape,
  values: Array.from(random.fillNormal(new Float32Array(elementCount(shape)))),
});

const resizeModes: Attributes[] = [
  { mode: 'nearest' },
  { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
  { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'ceil' },
  { mode: 'linear' },
  { mode: 'linear', coordinate_transformation_mode: 'align_corners' },
  { mode: 'linear', coordinate_transformation_mode: 'pytorch_half_pixel' },
  { mode: 'cubic', cubic_coeff_a: { float: -0.75 } },
];
const resizeCases = resizeModes.flatMap((attributes) =>
  [
    [1, 1, 2, 2],
    [1, 1, 1.5, 0.5],
    [1, 1, 3, 1],
  ].map((scales) =>
    single(`Resize ${JSON.stringify(attributes)} by ${scales.slice(2)}`, 13, 'Resize', {
      x: [2, 3, 4, 6],
      inputs: ['x', '', 'scales'],
      attributes,
      initializers: { scales: floats(...scales) },
    }),
  ),
);

const padModes = ['constant', 'reflect', 'edge'].map((mode) =>
  single(`Pad ${mode}`, 13, 'Pad', {
    x: [2, 3, 4, 5],
    attributes: { mode },
    initializers: { pads: ints(0, 0, 1, 2, 0, 0, 2, 1) },
  }),
);

const activations = ['Elu', 'Selu', 'HardSigmoid', 'Softsign', 'Softplus', 'Erf', 'Relu', 'LeakyRelu', 'Tanh'].map(
  (op) => single(op, 17, op),
);

const reductions = ['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare'];
const reductionCases = reductions.flatMap((op) => [
  single(`${op} by attribute`, 11, op, { x: [2, 3, 4], attributes: { axes: [-1], keepdims: 0 } }),
  single(`${op} by input`, 18, op, { x: [2, 3, 4], initializers: { axes: ints(0, 2) } }),
  single(`${op} of all`, op === 'ReduceSum' ? 13 : 18, op, { x: [2, 3, 4], attributes: { keepdims: 0 } }),
]);

const cases: Case[] = [
  single('Squeeze by attribute', 11, 'Squeeze', { x: [2, 1, 3, 1], attributes: { axes: [1, -1] } }),
  single('Squeeze by input', 13, 'Squeeze', { x: [2, 1, 3, 1], initializers: { axes: ints(1) } }),
  single('Squeeze of all', 13, 'Squeeze', { x: [2, 1, 3, 1] }),
  single('Unsqueeze by attribute', 11, 'Unsqueeze', { attributes: { axes: [0, 3] } }),
  single('Unsqueeze by input', 13, 'Unsqueeze', { initializers: { axes: ints(0, -1) } }),
  single('Clip of opset 9', 9, 'Clip', { attributes: { min: { float: -0.5 }, max: { float: 0.25 } } }),
  single('Clip above only', 13, 'Clip', {
    inputs: ['x', '', 'high'],
    initializers: { high: { shape: [], values: [0.3] } },
  }),
  single('Pad of opset 10', 10, 'Pad', {
    x: [1, 2, 3, 4],
    attributes: { pads: [0, 0, 1, 0, 0, 0, 0, 2], value: { float: 1.5 } },
  }),
  single('Pad by axes', 18, 'Pad', {
    x: [1, 2, 3, 4],
    inputs: ['x', 'pads', '', 'axes'],
    initializers: { pads: ints(1, 0, 2, 1), axes: ints(2, -1) },
  }),
  single('Pad that crops', 13, 'Pad', {
    x: [1, 2, 5, 4],
    initializers: { pads: ints(0, 0, -1, 1, 0, 0, 1, -2) },
  }),
  ...padModes,
  single('Slice of opset 9', 9, 'Slice', { attributes: { starts: [1], ends: [2 ** 31 - 1], axes: [1] } }),
  single('Slice to the end and backwards', 13, 'Slice', {
    x: [4, 6],
    initializers: {
      starts: ints(1, -1),
      ends: ints(2 ** 63, -(2 ** 63)),
      axes: ints(0, 1),
      steps: ints(2, -2),
    },
  }),
  {
    name: 'Split by attribute',
    opset: 11,
    x: [2, 5],
    nodes: [
      node('Split', ['x'], ['a', 'b'], { axis: 1, split: [2, 3] }),
      node('Concat', ['b', 'a'], ['y'], { axis: -1 }),
    ],
  },
  {
    name: 'Split by number of outputs',
    opset: 18,
    x: [2, 5],
    nodes: [
      node('Split', ['x'], ['a', 'b'], { axis: 1, num_outputs: 2 }),
      node('Concat', ['b', 'a'], ['y'], { axis: 1 }),
    ],
  },
  single('Upsample of opset 9', 9, 'Upsample', {
    x: [1, 2, 3, 2],
    initializers: { scales: floats(1, 1, 2, 3) },
  }),
  single('Resize of opset 10', 10, 'Resize', {
    x: [1, 2, 3, 2],
    initializers: { scales: floats(1, 1, 2, 2) },
  }),
  single('Resize to a size', 13, 'Resize', {
    x: [1, 2, 3, 2],
    inputs: ['x', '', '', 'sizes'],
    initializers: { sizes: ints(1, 2, 7, 3) },
  }),
  single('Resize by axes', 18, 'Resize', {
    x: [1, 2, 3, 2],
    inputs: ['x', '', 'scales'],
    attributes: { mode: 'linear', axes: [2, 3] },
    initializers: { scales: floats(2, 2.5) },
  }),
  ...resizeCases,
  ...['SAME_UPPER', 'SAME_LOWER', 'VALID'].map((auto_pad) =>
    single(`Conv ${auto_pad}`, 13, 'Conv', {
      x: [2, 4, 7, 6],
      attributes: { auto_pad, strides: [2, 2], group: 2 },
      initializers: { w: weights(4, 2, 3, 4), b: weights(4) },
    }),
  ),
  single('Conv over one axis', 13, 'Conv', {
    x: [2, 3, 9],
    attributes: { pads: [1, 2], strides: [2], dilations: [2] },
    initializers: { w: weights(4, 3, 3), b: weights(4) },
  }),
  single('ConvTranspose', 13, 'ConvTranspose', {
    x: [2, 4, 3, 5],
    attributes: { strides: [2, 3], pads: [1, 0, 0, 1], output_padding: [1, 0], group: 2 },
    initializers: { w: weights(4, 3, 3, 2), b: weights(6) },
  }),
  single('ConvTranspose to a shape', 13, 'ConvTranspose', {
    x: [1, 2, 3, 5],
    attributes: { strides: [2, 2], output_shape: [6, 10] },
    initializers: { w: weights(2, 3, 3, 3) },
  }),
  single('ConvTranspose SAME_UPPER', 13, 'ConvTranspose', {
    x: [1, 2, 3, 5],
    attributes: { strides: [2, 2], auto_pad: 'SAME_UPPER' },
    initializers: { w: weights(2, 3, 3, 3) },
  }),
  single('ConvTranspose over one axis', 13, 'ConvTranspose', {
    x: [1, 2, 5],
    attributes: { strides: [2], output_padding: [1] },
    initializers: { w: weights(2, 3, 3) },
  }),
  single('Softmax over several axes, as before opset 13', 11, 'Softmax', { x: [2, 3, 4] }),
  single('Softmax over a middle axis', 13, 'Softmax', { x: [2, 3, 4], attributes: { axis: 1 } }),
  single('GroupNormalization by channel', 21, 'GroupNormalization', {
    x: [2, 6, 3, 2],
    attributes: { num_groups: 3 },
    initializers: { scale: weights(6), bias: weights(6) },
  }),
  single('LayerNormalization', 17, 'LayerNormalization', {
    x: [2, 3, 4],
    attributes: { stash_type: 1 },
    initializers: { scale: weights(4), bias: weights(4) },
  }),
  single('MatMul with a vector', 13, 'MatMul', { x: [2, 3, 4], initializers: { v: weights(4) } }),
  single('Gemm', 11, 'Gemm', {
    x: [2, 3],
    attributes: { transB: 1, alpha: { float: 0.5 }, beta: { float: 2 } },
    initializers: { w: weights(4, 3), b: weights(4) },
  }),
  ...[
    ['bij,jk->bik', weights(4, 5)],
    ['bij,bik->bjk', weights(2, 3, 5)],
    ['bij,bkj->bki', weights(2, 5, 4)],
    ['bij,j->i', weights(4)],
    ['bij,kl->bl', weights(3, 2)],
    ['bij,ij->bij', weights(3, 4)],
  ].map(([equation, w]) =>
    single(`Einsum ${equation}`, 13, 'Einsum', {
      x: [2, 3, 4],
      attributes: { equation: equation as string },
      initializers: { w: w as Contents },
    }),
  ),
  single('Einsum of one operand', 13, 'Einsum', { x: [2, 3, 4], attributes: { equation: 'bij->jb' } }),
  single('Einsum without an output', 13, 'Einsum', {
    x: [3, 4],
    attributes: { equation: 'ca, ab' },
    initializers: { w: weights(4, 2) },
  }),
  single('Flatten', 13, 'Flatten', { x: [2, 3, 4], attributes: { axis: -1 } }),
  single('Tile', 13, 'Tile', { initializers: { repeats: ints(2, 3) } }),
  single('Expand', 13, 'Expand', { x: [2, 1, 3], initializers: { shape: ints(4, 2, 5, 1) } }),
  single('Gather of one row', 13, 'Gather', { attributes: { axis: 1 }, initializers: { i: scalarInt(-1) } }),
  single('Gather of rows', 13, 'Gather', { attributes: { axis: 1 }, initializers: { i: ints(2, 0, 2) } }),
  single('Dropout', 13, 'Dropout', { initializers: { ratio: { shape: [], values: [0.5] } } }),
  single('Pow of an integer', 13, 'Pow', { initializers: { e: scalarInt(3) } }),
  single('Max of three', 13, 'Max', { initializers: { a: weights(3), b: weights(2, 1) } }),
  single('Sum of three', 13, 'Sum', { initializers: { a: weights(3), b: weights(2, 1) } }),
  single('Mean of three', 13, 'Mean', { initializers: { a: weights(3), b: weights(2, 1) } }),
  single('PRelu', 16, 'PRelu', { initializers: { slope: weights(3) } }),
  single('QuickGelu', 17, 'QuickGelu', { domain: 'com.microsoft' }),
  single('Gelu', 20, 'Gelu'),
  single('Gelu by tanh', 20, 'Gelu', { attributes: { approximate: 'tanh' } }),
  single('HardSwish', 14, 'HardSwish'),
  single('Mish', 18, 'Mish'),
  ...activations,
  ...reductionCases,
  {
    name: 'a mask of comparisons',
    opset: 16,
    nodes: [
      node('GreaterOrEqual', ['x', 'zero'], ['above']),
      node('LessOrEqual', ['x', 'one'], ['below']),
      node('And', ['above', 'below'], ['inside']),
      node('Not', ['inside'], ['outside']),
      node('Or', ['outside', 'inside'], ['always']),
      node('Xor', ['always', 'outside'], ['chosen']),
      node('Where', ['chosen', 'x', 'zero'], ['y']),
    ],
    initializers: { zero: floats(0), one: floats(1) },
  },
  {
    name: 'a branch that is known to be taken',
    opset: 13,
    nodes: [
      node('Shape', ['x'], ['shape']),
      node('Gather', ['shape', 'last'], ['length']),
      node('Equal', ['length', 'three'], ['isThree']),
      {
        ...node('If', ['isThree'], ['y']),
        attribute: [
          branch('then_branch', node('Neg', ['x'], ['inner'])),
          branch('else_branch', node('Abs', ['x'], ['inner_else'])),
        ],
      },
    ],
    initializers: { last: scalarInt(-1), three: scalarInt(3) },
  },
];

function branch(name: string, body: NodeProto) {
  const output = body.output?.[0] ?? '';
  const graph = {
    name,
    node: [body],
    output: [{ name: output, type: { tensorType: { elemType: 1 } } }],
  };
  return { name, type: ATTRIBUTE_TYPE.graph, g: graph };
}

/** Nodes on known tensors whose result, of any type, is added to x. */
function folded(name: string, nodes: NodeProto[], initializers: Record<string, Contents>, opset = 13): Case {
  return {
    name: `known: ${name}`,
    opset,
    x: [1],
    initializers: { ...initializers },
    nodes: [...nodes, node('Cast', ['k'], ['asFloat'], { to: 1 }), node('Add', ['x', 'asFloat'], ['y'])],
  };
}
const a: Contents = { shape: [2, 3], values: [1, -2, 3, 4, 5.5, -6] };
const i: Contents = { shape: [2, 3], values: [7, -8, 9, 10, -11, 12], type: 'int64' };
const foldedUnary = [
  'Neg',
  'Abs',
  'Floor',
  'Ceil',
  'Round',
  'Sign',
  'Exp',
  'Sin',
  'Cos',
  'Reciprocal',
  'Transpose',
].map((op) => folded(op, [node(op, ['a'], ['k'])], { a }));
const foldedBinary = [
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Min',
  'Max',
  'Mod',
  'Equal',
  'Less',
  'Greater',
  'LessOrEqual',
  'GreaterOrEqual',
].map((op) => folded(`${op} of integers`, [node(op, ['i', 'three'], ['k'])], { i, three: ints(3) }));
const foldedCases: Case[] = [
  ...foldedUnary,
  ...foldedBinary,
  folded('Pow', [node('Pow', ['a', 'a'], ['k'])], { a: floats(1, 2, 0.5) }),
  folded('Range', [node('Range', ['from', 'to', 'by'], ['k'])], {
    from: scalarInt(7),
    to: scalarInt(-2),
    by: scalarInt(-2),
  }),
  folded(
    'ConstantOfShape',
    [node('ConstantOfShape', ['s'], ['k'], { value: { shape: [1], values: [4], type: 'int64' } })],
    {
      s: ints(2, 3),
    },
  ),
  folded('NonZero', [node('NonZero', ['a'], ['k'])], { a: { shape: [2, 3], values: [0, 1, 0, 2, 0, 3] } }),
  folded('Gather', [node('Gather', ['a', 'at'], ['k'], { axis: 1 })], {
    a,
    at: { shape: [2, 2], values: [0, -1, 1, 0], type: 'int64' },
  }),
  folded('Concat', [node('Concat', ['a', 'a', 'i2'], ['k'], { axis: -1 })], {
    a,
    i2: { shape: [2, 1], values: [8, 9] },
  }),
  folded('Slice', [node('Slice', ['a', 'starts', 'ends', 'axes', 'steps'], ['k'])], {
    a,
    starts: ints(0, 2),
    ends: ints(2 ** 63, -10),
    axes: ints(0, 1),
    steps: ints(1, -2),
  }),
  folded('Reshape', [node('Reshape', ['a', 's'], ['k'])], { a, s: ints(0, -1, 1) }),
  folded('Expand', [node('Expand', ['a', 's'], ['k'])], { a, s: ints(2, 2, 1) }),
  folded('Tile', [node('Tile', ['a', 's'], ['k'])], { a, s: ints(2, 2) }),
  folded('Squeeze and Unsqueeze', [node('Unsqueeze', ['a', 's'], ['u']), node('Squeeze', ['u', 's'], ['k'])], {
    a,
    s: ints(1),
  }),
  folded('ReduceProd', [node('ReduceProd', ['i'], ['k'], { axes: [1], keepdims: 0 })], { i }),
  folded('ReduceMax', [node('ReduceMax', ['i'], ['k'], { axes: [0] })], { i }),
  folded('Where', [node('Where', ['c', 'i', 'three'], ['k'])], {
    i,
    three: ints(3),
    c: { shape: [2, 1], values: [1, 0], type: 'bool' },
  }),
  folded('Constant of integers', [node('Constant', [], ['k'], { value_ints: [4, 5] })], {}),
  folded('Constant of a float', [node('Constant', [], ['k'], { value_float: { float: 0.1 } })], {}),
];

async function run(model: Uint8Array, x: number[], data: Float32Array) {
  const session = await Session.create(model, 'cpu');
  const { y } = await session.run({ x: hostTensor('float32', x, data) });
  await session.release();
  return { dims: y?.dims, data: Array.from(y?.data as Float32Array) };
}

describe('a file of another exporter gives what onnxruntime gives for it', () => {
  it.each([...cases, ...foldedCases])('$name (opset $opset)', async ({ opset, x = [2, 3], nodes, initializers }) => {
    const file = onnxFile({ opset, nodes, inputs: { x }, initializers });
    const data = new RandomStream(3).fillNormal(new Float32Array(elementCount(x)));
    const expected = await run(file, x, data);
    const actual = await run(writeOnnx(readOnnx(file)), x, data);
    expect(actual.dims).toEqual(expected.dims);
    const error = Math.hypot(...expected.data.map((value, k) => value - (actual.data[k] as number)));
    expect(error).toBeLessThan(1e-5 * Math.hypot(...expected.data) + 1e-6);
  });
});

describe('what cannot be read', () => {
  it('is named all in one error, with the nodes', () => {
    const file = onnxFile({
      opset: 17,
      inputs: { x: [2, 3, 4, 4] },
      nodes: [
        node('Celu', ['x'], ['a']),
        node('Celu', ['a'], ['b']),
        node('LpNormalization', ['x'], ['c']),
        node('Resize', ['x', '', 'scales'], ['d'], { mode: 'strange' }),
        node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }),
        { ...node('If', ['sum'], ['e']), attribute: [] },
        node('Sum', ['b', 'c', 'd', 'e'], ['y']),
      ],
      initializers: { scales: floats(1, 1, 1.5, 1.5) },
    });
    const read = () => readOnnx(file);
    expect(read).toThrow(OnnxFormatError);
    for (const part of [
      /op Celu \(node 'node_0'\)/,
      /LpNormalization/,
      /'node_3' \(op Resize\).*strange/,
      /'node_5' \(op If\): its condition/,
    ])
      expect(read).toThrow(part);
  });

  it('is nothing that the outputs do not need', () => {
    const file = onnxFile({
      opset: 17,
      inputs: { x: [2] },
      nodes: [node('Celu', ['x'], ['unused']), node('Neg', ['x'], ['y'])],
    });
    expect(readOnnx(file).nodes.map(({ opType }) => opType)).toEqual(['Neg']);
  });

  it('does not fill the memory', () => {
    const file = onnxFile({
      opset: 17,
      inputs: { x: [2] },
      nodes: [node('ConstantOfShape', ['s'], ['k']), node('Add', ['x', 'k'], ['y'])],
      initializers: { s: ints(100_000, 100_000, 100_000) },
    });
    expect(() => readOnnx(file)).toThrow(/impossible or too large/);
  });
});
