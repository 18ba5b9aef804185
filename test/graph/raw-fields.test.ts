import { describe, expect, it } from 'vitest';
import { OnnxFormatError } from '../../src/errors.ts';
import { externalLocations } from '../../src/graph/onnx/raw-fields.ts';
import { encodeTensorProto, type NodeProto, type TensorProto } from '../../src/graph/onnx/schema.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { node, onnxFile, tensor } from './onnx-nodes.ts';

const inMemory = (bytes: Uint8Array) => ({
  size: bytes.length,
  read: async (begin: number, end: number) => bytes.slice(begin, end),
});

const external = (location: string, name = 'w'): TensorProto => ({
  name,
  dims: [2],
  dataType: 1,
  dataLocation: 1,
  externalData: [
    { key: 'location', value: location },
    { key: 'offset', value: '0' },
    { key: 'length', value: '8' },
  ],
});
const withTensor = (t: TensorProto): NodeProto => ({
  ...node('Constant', [], ['c']),
  attribute: [{ name: 'value', type: 4, t }],
});
const file = (nodes: NodeProto[], rawInitializers: TensorProto[] = []) =>
  onnxFile({ opset: 17, inputs: { x: [2] }, nodes, rawInitializers });

/** What stands before a value of `length` bytes. */
function header(id: number, length: number): number[] {
  const varint = (x: number): number[] => (x < 128 ? [x] : [(x % 128) + 128, ...varint(Math.floor(x / 128))]);
  return [...varint(id * 8 + 2), ...varint(length)];
}
const field = (id: number, value: Uint8Array) => Uint8Array.of(...header(id, value.length), ...value);

describe('the locations of external data', () => {
  it('are none where all lies in the file', async () => {
    const stale = {
      ...tensor({ shape: [2], values: [1, 2] }, 'v'),
      externalData: external('x').externalData,
    };
    expect(await externalLocations(inMemory(file([node('Add', ['x', 'v'], ['y'])], [stale])))).toEqual([]);
  });

  it('are found in initializers, attributes and subgraphs, once and in order', async () => {
    const branch = { node: [withTensor(external('of branch'))], initializer: [external('b')] };
    const nodes = [
      { ...node('If', ['x'], ['y']), attribute: [{ name: 'then_branch', type: 5, g: branch }] },
      withTensor(external('of node')),
    ];
    const bytes = file(nodes, [external('b'), external('a'), external('folder/c'), external('a')]);
    expect(await externalLocations(inMemory(bytes))).toEqual(['a', 'b', 'folder/c', 'of branch', 'of node']);
  });

  it('are found in functions, lists of tensors and sparse tensors, of which this package knows nothing else', async () => {
    const graphOf = (bytes: Uint8Array) => field(7, bytes);
    const alone = encodeTensorProto(external('data'));
    const inGraph = field(5, alone);
    const places: Uint8Array[] = [
      field(25, field(7, field(5, field(5, alone)))),
      field(25, field(11, field(5, alone))),
      graphOf(field(15, field(1, alone))),
      graphOf(field(15, field(2, alone))),
      graphOf(field(1, field(5, field(10, alone)))),
      graphOf(field(1, field(5, field(11, inGraph)))),
      graphOf(field(1, field(5, field(22, field(1, alone))))),
    ];
    for (const bytes of places) expect(await externalLocations(inMemory(bytes))).toEqual(['data']);
  });

  it('are found in a file of 2 GB of which little is read', async () => {
    const skipped = 2_000_000_000;
    const begin = header(99, skipped);
    const tail = file([], [external('data')]);
    let read = 0;
    const source = {
      size: begin.length + skipped + tail.length,
      read: async (from: number, to: number) => {
        read += to - from;
        return Uint8Array.from({ length: to - from }, (_, i) => {
          const at = from + i;
          return begin[at] ?? tail[at - begin.length - skipped] ?? 0;
        });
      },
    };
    expect(await externalLocations(source)).toEqual(['data']);
    expect(read).toBeLessThan(300_000);
  });

  it('are not looked for without end', async () => {
    let nested = new Uint8Array(0);
    for (let i = 0; i < 300; i++) nested = field(1, field(5, field(6, nested)));
    await expect(externalLocations(inMemory(field(7, nested)))).rejects.toThrow(/nests more than 100/);
  });

  it('of damaged files are an OnnxFormatError, or what is left of them', async () => {
    const bytes = file([withTensor(external('of node'))], [external('a'), external('b')]);
    const stream = new RandomStream(7, 0);
    for (let i = 0; i < 500; i++) {
      const damaged = bytes.slice(0, i % 2 ? bytes.length : stream.integer(bytes.length));
      if (damaged.length > 0) damaged[stream.integer(damaged.length)] = stream.integer(256);
      const found = await externalLocations(inMemory(damaged)).catch((error) => error);
      if (!Array.isArray(found)) expect(found).toBeInstanceOf(OnnxFormatError);
    }
  });
});
