import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadPoints, writeCsvPoints, writeNpyPoints } from '../../src/datasets/index.ts';
import { parseCsvPoints } from '../../src/datasets/points/csv.ts';
import { DatasetError, InvalidArgumentError } from '../../src/errors.ts';
import { npyBytes, parseNpyArray, parseNpyRows } from '../../src/files/npy.ts';
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
    ['columns aligned by blanks and tabs', '   1    2 \n  \t3 \t  4\n'],
    ['line ends of every kind', '1,2\r\n3,4\r\r\n'],
    ['line ends of old Macs', '1 2\r3 4\r'],
    ['a line end that Windows doubled', '1,2\r\r\n3,4\r\r\n'],
    ['rows of nothing at the end', '1,2\n3,4\n,\n,\n'],
    ['an index beside numbered columns, as pandas writes an array', ',0,1\n0,1,2\n1,3,4\n'],
    ['an index of dates', ',x,y\n2026-01-01,1,2\n2026-01-02,3,4\n'],
    ['an index of two levels', ',,x,y\na,0,1,2\na,1,3,4\n'],
    ['an index that pandas read and wrote again', 'Unnamed: 0,x,y\n0,1,2\n1,3,4\n'],
    ['row names of write.csv in R', '"","x","y"\n"1",1,2\n"2",3,4\n'],
    ['a missing value as a name beside another name', 'NA,x\n1,2\n3,4\n'],
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
    ['1,2\n3,0x10\n', /line 2, column 2: '0x10' is not a decimal number/],
    ['0x1,0x2\n3,4\n', /line 1, column 1: '0x1' is not a decimal number/],
    ['1,2\n3,0b1\n', /'0b1' is not a decimal number/],
    ['1.0D0,2.0D0\n3,4\n', /line 1, column 1: '1.0D0' is not a finite number/],
    ["1_000;2'000\n3;4\n", /line 1, column 1: '1_000'/],
    ['5%,6%\n3,4\n', /line 1, column 1: '5%'/],
    ['NA,NA\n3,4\n', /line 1, column 1: 'NA' is not a finite number but a missing value/],
    ['NaN NaN\n3 4\n', /line 1, column 1: 'NaN'/],
    ['?,?\n3,4\n', /line 1, column 1: '\?' is not a finite number but a missing value/],
    ['null\tnone\n3\t4\n', /line 1, column 1: 'null'/],
    [',\n3,4\n', /line 1: the row is empty/],
    [',3\n3,4\n', /line 1, column 1: '' is not a finite number but a missing value/],
    ['1\t\t2\n', /column 2: '' is not a finite number but a missing value/],
    ['x,,y\n1,2,3\n', /line 1, column 2 is named ""/],
    ['x,y,\n1,2,\n', /line 1, column 3 is named ""/],
    [`${'x'.repeat(201)},y\n1,2\n`, /a name is text on one line of 1 to 200 characters/],
    ['1,5;2,5\n', /'5;2' is not a finite number/],
    ['x;y\n1,5;2,5\n', /'1,5' is not a finite number/],
    ['1,2\n\n3,4\n', /row is empty/],
    ['1,2\n3\n', /1 values, but the first row has 2/],
    ['1,2\n"3,4\n', /not a table/],
  ])('%j is refused', (text, message) => {
    expect(() => parseCsvPoints(text, 'x.csv')).toThrow(DatasetError);
    expect(() => parseCsvPoints(text, 'x.csv')).toThrow(message);
  });

  it('gives back the float32 values that were written, and names', async () => {
    const file = path.join(folder, 'round.csv');
    const data = new RandomStream(1).fillNormal(new Float32Array(300));
    await writeCsvPoints(file, data, 3);
    expect((await loadPoints(file, { scaling: 'none' })).data).toEqual(data);
    const columns = ['petal length', 'a "b", c; d', '# größe'];
    await writeCsvPoints(file, data, 3, columns);
    expect(await loadPoints(file, { scaling: 'none' })).toMatchObject({ data, columns });
    await writeCsvPoints(file, data, 1, ['petal length']);
    expect(await loadPoints(file, { scaling: 'none' })).toMatchObject({ data, columns: ['petal length'] });
    await expect(writeCsvPoints(file, data, 3, ['x'])).rejects.toThrow(InvalidArgumentError);
  });

  it.each([
    ['x y\n1 2\n', ['x', 'y']],
    ['"petal length"   "petal width"\n1 2\n', ['petal length', 'petal width']],
    ['petal length\tpetal width\n1\t2\n', ['petal length', 'petal width']],
    ['"a,b";"c"\n1;2\n', ['a,b', 'c']],
    ['x,y\n1,2\n', ['x', 'y']],
    ['2theta,1st\n1,2\n', ['2theta', '1st']],
    ['1,2\n3,4\n', undefined],
  ])('takes names from %j', (text, columns) => {
    expect(parseCsvPoints(text, 'x').columns).toEqual(columns);
  });

  it('takes time in proportion to the length of odd text', () => {
    const long = 120_000;
    for (const text of [' ', '\r', '1', '-', '0x', ' ,', '"', '#'].map((part) => part.repeat(long))) {
      const start = process.cpuUsage();
      expect(() => parseCsvPoints(`${text}x`, 'x')).toThrow(DatasetError);
      // A tenth of a second of processor time; a search that goes back at every character takes 10 s and more.
      expect(process.cpuUsage(start).user / 1e6).toBeLessThan(5);
    }
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

  it('in other ways to write the same header', () => {
    for (const text of [
      header('<f8', 'False', '(2L, 1L)'),
      header('<f8', 'False', '(2L,)'),
      '{"shape": (2, 1), "fortran_order": False, "descr": "<f8"}\n',
    ])
      expect([...parseNpyRows(npy(text, doubles(1, 2)), 'x').data]).toEqual([1, 2]);
    // A single number, as np.savez writes a count.
    expect(parseNpyArray(npy(header('<f8', 'False', '()'), doubles(7)), 'x')).toEqual({
      data: Float64Array.of(7),
      shape: [],
    });
  });

  it.each([
    ['an object array', npy(header('|O', 'False', '(2, 2)'), doubles(1, 2, 3, 4)), /plain array|not supported/],
    ['three axes', npy(header('<f8', 'False', '(1, 2, 2)'), doubles(1, 2, 3, 4)), /shape is/],
    ['no rows', npy(header('<f8', 'False', '(0, 2)'), doubles()), /shape is/],
    ['a missing row', npy(header('<f8', 'False', '(3, 2)'), doubles(1, 2, 3, 4)), /damaged/],
    ['NaN', npy(header('<f8', 'False', '(2, 1)'), doubles(1, Number.NaN)), /row 1, column 0: NaN/],
    ['a huge shape', npy(header('<f8', 'False', '(99999999999, 2)'), doubles(1)), /damaged/],
    ['a single number', npy(header('<f8', 'False', '()'), doubles(1)), /shape is \(\), a single number/],
    ['a negative size', npy(header('<f8', 'False', '(-2, 1)'), doubles(1, 2)), /plain array/],
    ['a record array', npy(header("<f8', 'x': ('<f8')}, {'descr': '<f8", 'False', '(1,)'), doubles(1)), /plain array/],
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
