import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InvalidArgumentError, SafetensorsError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import {
  type NamedTensor,
  readSafetensors,
  readSafetensorsHeader,
  safetensorsChunks,
} from '../../src/files/safetensors.ts';

const fixture = fileURLToPath(new URL('../fixtures/hub/diffusion_pytorch_model.safetensors', import.meta.url));
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'iso-safetensors-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const serialized = (...file: Parameters<typeof safetensorsChunks>) => Buffer.concat([...safetensorsChunks(...file)]);

async function read(bytes: Uint8Array): Promise<Map<string, NamedTensor>> {
  const path = join(root, 'read.safetensors');
  await writeFile(path, bytes);
  return readSafetensors(path);
}

/** A safetensors file from header text and data bytes, well-formed or not. */
function file(header: string | Uint8Array, data: Uint8Array = new Uint8Array()): Uint8Array {
  const json = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

const f32 = (shape: number[], ...values: number[]): NamedTensor => ({
  dtype: 'F32',
  shape,
  data: Float32Array.from(values),
});

describe('a file that diffusers wrote', () => {
  it('is read with the right names, shapes and values', async () => {
    const tensors = await readSafetensors(fixture);
    // Read with Python's json and struct from the same file.
    const bytes = await readFile(fixture);
    expect(tensors.get('conv_in.weight')?.shape).toEqual([8, 3, 3, 3]);
    expect(tensors.get('conv_in.bias')?.data[0]).toBe(bytes.readFloatLE(8 + 31704));
    expect(tensors.get('conv_in.weight')?.data.at(-1)).toBe(bytes.readFloatLE(8 + 31704 + 896 - 4));
    const numbers = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
    expect(numbers).toBe((bytes.length - 8 - 31704) / 4);
    const { metadata, dataStart } = await readSafetensorsHeader(fixture);
    expect([...metadata]).toEqual([['format', 'pt']]);
    expect(dataStart).toBe(8 + 31704);
  });

  it('is written again byte for byte, whatever the order of the map', async () => {
    const tensors = await readSafetensors(fixture);
    const reversed = new Map([...tensors].reverse());
    const path = join(root, 'copy.safetensors');
    await writeFileAtomic(path, safetensorsChunks(reversed, { format: 'pt' }));
    const original = await readFile(fixture);
    expect(
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    ).toBe(createHash('sha256').update(original).digest('hex'));
    expect(Buffer.compare(serialized(reversed, { format: 'pt' }), original)).toBe(0);
    expect(await readdir(root)).toEqual(['copy.safetensors']);
  });

  it('gives single tensors by name, in the order asked for', async () => {
    const names = ['conv_in.weight', 'conv_in.bias'];
    const some = await readSafetensors(fixture, { names });
    expect([...some.keys()]).toEqual(names);
    expect(some.get('conv_in.bias')).toEqual((await readSafetensors(fixture)).get('conv_in.bias'));
    await expect(readSafetensors(fixture, { names: ['none'] })).rejects.toThrow(SafetensorsError);
  });
});

describe('safetensorsChunks', () => {
  it("equals the bytes in the reference implementation's own tests", () => {
    // huggingface/safetensors, safetensors/src/tensor.rs: test_serialization, test_empty, test_serialization_forced_alignement.
    const values = [0, 1, 2, 3, 4, 5];
    const data = Buffer.from(Float32Array.from(values).buffer);
    expect(Buffer.from(serialized(new Map([['attn.0', f32([1, 2, 3], ...values)]])))).toEqual(
      file('{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}', data),
    );
    expect(Buffer.from(serialized(new Map([['attn0', f32([1, 1, 2, 3], ...values)]])))).toEqual(
      file('{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ', data),
    );
    expect(Buffer.from(serialized(new Map()))).toEqual(file('{}      '));
    expect(Buffer.from(serialized(new Map(), { framework: 'pt' }))).toEqual(
      file('{"__metadata__":{"framework":"pt"}}     '),
    );
  });

  it('puts wide elements first and keeps every dtype, scalars, empty tensors and odd names', async () => {
    const tensors = new Map<string, NamedTensor>([
      ['bool', { dtype: 'BOOL', shape: [3], data: Uint8Array.of(0, 1, 1) }],
      ['f16', { dtype: 'F16', shape: [1], data: Uint16Array.of(0x3c00) }],
      ['10', f32([], Math.fround(0.1))],
      ['9', f32([0, 4])],
      ['__proto__', f32([1], -0)],
      ['\u{1f600}', f32([2], Number.NaN, Number.NEGATIVE_INFINITY)],
      ['\uffee', f32([1], 1)],
      ['i64', { dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 2n ** 62n) }],
      ['f64', { dtype: 'F64', shape: [1, 1], data: Float64Array.of(Math.PI) }],
      ['u64', { dtype: 'U64', shape: [1], data: BigUint64Array.of(2n ** 64n - 1n) }],
      ['i8', { dtype: 'I8', shape: [1], data: Int8Array.of(-7) }],
      ['i16', { dtype: 'I16', shape: [1], data: Int16Array.of(-300) }],
      ['i32', { dtype: 'I32', shape: [1], data: Int32Array.of(-70_000) }],
      ['u32', { dtype: 'U32', shape: [1], data: Uint32Array.of(2 ** 32 - 1) }],
    ]);
    const tensorsRead = await read(serialized(tensors));
    expect(new Map([...tensorsRead].sort())).toEqual(new Map([...tensors].sort()));
    const order = ['f64', 'i64', 'u64', '10', '9', '__proto__', 'i32', 'u32', '\uffee', '\u{1f600}'];
    expect([...tensorsRead.keys()]).toEqual([...order, 'f16', 'i16', 'bool', 'i8']);
  });

  it('writes a view of a larger buffer, not the buffer', async () => {
    const data = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
    const tensors = await read(serialized(new Map([['x', { dtype: 'F32', shape: [2], data }]])));
    expect(tensors.get('x')?.data).toEqual(Float32Array.of(1, 2));
  });

  it.each<[string, string, NamedTensor]>([
    ['a wrong length', 'x', f32([3], 1, 2)],
    ['a negative length', 'x', f32([-1, -2], 1, 2)],
    ['a wrong array', 'x', { dtype: 'F64', shape: [1], data: Float32Array.of(1) }],
    ['an unknown dtype', 'x', { dtype: 'F12' as 'F32', shape: [1], data: Float32Array.of(1) }],
    ['the reserved name', '__metadata__', f32([1], 1)],
    ['half a surrogate pair', '\ud800', f32([1], 1)],
  ])('refuses %s before the first piece', (_, name, tensor) => {
    expect(() => safetensorsChunks(new Map([[name, tensor]]))).toThrow(InvalidArgumentError);
  });
});

describe('malformed files', () => {
  const entry = (offsets: string, shape = '[2]', dtype = '"U8"') =>
    `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`;
  const two = Uint8Array.of(1, 2);

  it('a hand-made file without padding or order is read', async () => {
    const header = `{"b":${entry('[2,4]')},"a":${entry('[0,2]')},"c":${entry('[4,4]', '[0]')}}`;
    const tensors = await read(file(header, Uint8Array.of(1, 2, 3, 4)));
    expect(tensors.get('a')?.data).toEqual(Uint8Array.of(1, 2));
    expect(tensors.get('b')?.data).toEqual(Uint8Array.of(3, 4));
    expect(tensors.get('c')?.data).toEqual(new Uint8Array(0));
  });

  it.each<[string, Uint8Array]>([
    ['no bytes', new Uint8Array()],
    ['seven bytes', new Uint8Array(7)],
    ['a header longer than the file', Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d)],
    ['a header of 2^64 - 1 bytes', new Uint8Array(16).fill(255)],
    ['an empty header', file('')],
    ['a header that does not begin with {', file(' {}')],
    ['a header that is an array', file('[]')],
    ['a byte order mark', file('\ufeff{}')],
    ['invalid UTF-8', file(Uint8Array.of(0x7b, 0x22, 0xc0, 0x22, 0x3a, 0x31, 0x7d))],
    ['a truncated header', file('{"a":')],
    ['a tensor twice', file(`{"a":${entry('[0,2]')},"a":${entry('[0,2]')}}`, two)],
    ['a repeated field', file('{"a":{"dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2]}}', two)],
    ['an overlap', file(`{"a":${entry('[0,2]')},"b":${entry('[1,3]')}}`, Uint8Array.of(1, 2, 3))],
    ['a hole', file(`{"a":${entry('[0,2]')},"b":${entry('[3,5]')}}`, new Uint8Array(5))],
    ['a hole at the start', file(`{"a":${entry('[1,3]')}}`, new Uint8Array(3))],
    ['bytes after the last tensor', file(`{"a":${entry('[0,2]')}}`, new Uint8Array(3))],
    ['missing data', file(`{"a":${entry('[0,2]')}}`, new Uint8Array(1))],
    ['offsets in the wrong order', file(`{"a":${entry('[2,0]')}}`, two)],
    ['a negative offset', file(`{"a":${entry('[-2,0]')}}`)],
    ['a fractional length', file(`{"a":${entry('[0,2]', '[0.5,4]')}}`, two)],
    ['a size that overflows', file(`{"a":${entry('[0,2]', '[4294967296,4294967296,2]')}}`, two)],
    ['a size that overflows to NaN', file(`{"a":${entry('[0,0]', `[${'9007199254740991,'.repeat(30)}0]`)}}`)],
    ['an unknown dtype', file(`{"a":${entry('[0,2]', '[2]', '"toString"')}}`, two)],
    ['a missing shape', file('{"a":{"dtype":"U8","data_offsets":[0,2]}}', two)],
    ['a tensor that is null', file('{"a":null}')],
    ['metadata with a number', file('{"__metadata__":{"a":1}}')],
    ['metadata that is a list', file('{"__metadata__":[]}')],
    ['deep nesting', file(`{"a":${'['.repeat(1_000_000)}`)],
  ])('%s is a SafetensorsError', async (_, bytes) => {
    await expect(read(bytes)).rejects.toThrow(SafetensorsError);
  });

  it('a missing file, a folder and a pipe are SafetensorsErrors that name them', async () => {
    await expect(readSafetensors(join(root, 'none'))).rejects.toThrow(/none does not exist/);
    await mkdir(join(root, 'folder'));
    await expect(readSafetensors(join(root, 'folder'))).rejects.toThrow(SafetensorsError);
    if (process.platform === 'win32') return;
    execFileSync('mkfifo', [join(root, 'pipe')]);
    await expect(readSafetensors(join(root, 'pipe'))).rejects.toThrow(/not a regular file/);
  });

  it('a huge sparse file with a small tensor count is refused without reading it', async () => {
    const path = join(root, 'sparse');
    await writeFile(path, file(`{"a":${entry('[0,2]')}}`, two));
    await truncate(path, 2 ** 40);
    await expect(readSafetensors(path)).rejects.toThrow(/truncated or damaged/);
  });
});
