import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadPoints, writeCsvPoints, writeNpyPoints } from '../../src/datasets/index.ts';
import { parseCsvPoints } from '../../src/datasets/points/point-files.ts';
import { DatasetError } from '../../src/errors.ts';
import { npyBytes, parseNpyRows } from '../../src/files/npy.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-points-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('CSV', () => {
  it.each([
    ['commas', '1,2\n3,4\n'],
    ['semicolons and a header', 'x;y\n1;2\n3;4'],
    ['tabs and CRLF', '1\t2\r\n3\t4\r\n'],
    ['spaces and a comment', '# made by hand\n1 2\n3 4\n\n'],
    ['exponents and a byte order mark', '\uFEFF1e0,0.2e1\n+3,4.\n'],
  ])('with %s', (_name, text) => {
    const { data, dims } = parseCsvPoints(text, 'x.csv');
    expect(dims).toBe(2);
    expect(Array.from(data)).toEqual([1, 2, 3, 4]);
  });

  it.each([
    ['', /holds no rows/],
    ['x,y\n', /no rows of numbers/],
    ['1,2\nNaN,3\n', /line 2, column 1: 'NaN'/],
    ['1,2\n3,inf\n', /line 2, column 2: 'inf'/],
    ['NaN,2\n', /line 1/],
    ['1,2\n3,1e60\n', /'1e60' is not a finite number/],
    ['1,2\n3,three\n', /'three'/],
    ['1,2\n\n3,4\n', /row is empty/],
    ['1,2\n3\n', /1 values, but the first row has 2/],
    ['1,2\n"3,4\n', /not a table/],
  ])('%j is refused', (text, message) => {
    expect(() => parseCsvPoints(text, 'x.csv')).toThrow(DatasetError);
    expect(() => parseCsvPoints(text, 'x.csv')).toThrow(message);
  });

  it('gives back the float32 values that were written', async () => {
    const file = path.join(folder, 'round.csv');
    const data = new RandomStream(1).fillNormal(new Float32Array(300));
    await writeCsvPoints(file, data, 3);
    expect((await loadPoints(file, { scaling: 'none' })).data).toEqual(data);
  });
});

describe('NPY', () => {
  /** As numpy.save writes them, with another header. */
  const npy = (header: string, body: Uint8Array, version = 1) => {
    const head = Buffer.alloc(version === 1 ? 10 : 12);
    head.write('\x93NUMPY', 'latin1');
    head[6] = version;
    if (version === 1) head.writeUInt16LE(header.length, 8);
    else head.writeUInt32LE(header.length, 8);
    return Buffer.concat([head, Buffer.from(header, 'latin1'), body]);
  };
  const doubles = (...values: number[]) => Buffer.from(Float64Array.from(values).buffer);
  const header = (descr: string, order: string, shape: string) =>
    `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }\n`;

  it('in C and Fortran order, both byte orders, versions 1 to 3', () => {
    expect(Array.from(parseNpyRows(npy(header('<f8', 'False', '(2, 2)'), doubles(1, 2, 3, 4)), 'x').data)).toEqual([
      1, 2, 3, 4,
    ]);
    expect(Array.from(parseNpyRows(npy(header('<f8', 'True', '(2, 2)'), doubles(1, 2, 3, 4), 2), 'x').data)).toEqual([
      1, 3, 2, 4,
    ]);
    expect(
      Array.from(parseNpyRows(npy(header('>i2', 'False', '(1, 2)'), Uint8Array.of(1, 0, 255, 255), 3), 'x').data),
    ).toEqual([256, -1]);
    expect(parseNpyRows(npy(header('<f8', 'False', '(3,)'), doubles(1, 2, 3)), 'x').dims).toBe(1);
  });

  it.each([
    ['an object array', npy(header('|O', 'False', '(2, 2)'), doubles(1, 2, 3, 4)), /plain array|not supported/],
    ['three axes', npy(header('<f8', 'False', '(1, 2, 2)'), doubles(1, 2, 3, 4)), /shape is/],
    ['no rows', npy(header('<f8', 'False', '(0, 2)'), doubles()), /shape is/],
    ['a missing row', npy(header('<f8', 'False', '(3, 2)'), doubles(1, 2, 3, 4)), /damaged/],
    ['NaN', npy(header('<f8', 'False', '(2, 1)'), doubles(1, Number.NaN)), /row 1, column 0: NaN/],
    ['a huge shape', npy(header('<f8', 'False', '(99999999999, 2)'), doubles(1)), /damaged/],
    ['no NumPy file', Buffer.from('hello world, this is text'), /not a NumPy file/],
  ])('%s is refused', (_name, bytes, message) => {
    expect(() => parseNpyRows(bytes, 'x.npy')).toThrow(DatasetError);
    expect(() => parseNpyRows(bytes, 'x.npy')).toThrow(message);
  });

  it('gives back what was written', async () => {
    const file = path.join(folder, 'round.npy');
    const data = new RandomStream(2).fillNormal(new Float32Array(40));
    await writeNpyPoints(file, data, 2);
    expect((await loadPoints(file, { scaling: 'none', n: 10 })).data).toEqual(data.slice(0, 20));
    expect(readFileSync(file).length % 64).toBe((40 * 4) % 64);
  });

  it('that is missing is an error of its own', async () => {
    await expect(loadPoints(path.join(folder, 'none.npy'))).rejects.toThrow(DatasetError);
    writeFileSync(path.join(folder, 'binary.csv'), Uint8Array.of(0xff, 0xfe, 0x00));
    await expect(loadPoints(path.join(folder, 'binary.csv'))).rejects.toThrow(DatasetError);
  });
});

describe('damaged files', () => {
  const random = new RandomStream(4);
  const damaged = (bytes: Uint8Array) => {
    const copy = bytes.slice(0, random.uniform() < 0.3 ? random.integer(bytes.length) : bytes.length);
    for (let i = random.integer(4); i >= 0 && copy.length > 0; i--)
      copy[random.integer(copy.length)] = random.integer(256);
    return copy;
  };

  it.each([
    [
      'NPY',
      () => npyBytes(new RandomStream(3).fillNormal(new Float32Array(24)), [12, 2]),
      (bytes: Uint8Array) => parseNpyRows(bytes, 'x'),
    ],
    [
      'CSV',
      () => Buffer.from('x,y\n1.5,2\n-3,4e2\n5,6\n'),
      (bytes: Uint8Array) => parseCsvPoints(Buffer.from(bytes).toString('latin1'), 'x'),
    ],
  ] as const)('%s: 1,000 of them are read or refused, nothing else', (_name, whole, parse) => {
    for (let i = 0; i < 1000; i++) {
      const bytes = damaged(whole());
      try {
        const { data, dims } = parse(bytes);
        expect(data.every(Number.isFinite) && data.length % dims === 0).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(DatasetError);
      }
    }
  });
});
