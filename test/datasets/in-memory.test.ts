import { describe, expect, it } from 'vitest';
import { imagesFromArray, loadImages, loadPoints, pointsFromArray } from '../../src/datasets/index.ts';
import { syntheticPoints } from '../../src/datasets/points/synthetic.ts';
import { DatasetError, InvalidArgumentError } from '../../src/errors.ts';

describe('imagesFromArray', () => {
  it('gives the set that loadImages reads: the same pixels, labels and fingerprint', async () => {
    const digits = await loadImages('digits');
    const bytes = new Uint8Array(Buffer.concat(Array.from({ length: digits.count }, (_, i) => digits.pixels(i))));
    const shape = { height: 8, width: 8, channels: 1 } as const;
    const set = imagesFromArray(bytes, { ...shape, labels: digits.labels, name: 'digits' });
    expect(set).toMatchObject({ ...shape, name: 'digits', count: 1797, labels: digits.labels, skipped: [] });
    expect(set.fingerprint).toBe(digits.fingerprint);
    expect(set.pixels(1796)).toEqual(digits.pixels(1796));
    const unlabelled = imagesFromArray(bytes, shape);
    expect(unlabelled.labels).toBeUndefined();
    expect(unlabelled.fingerprint).not.toBe(digits.fingerprint);
    expect(() => set.pixels(1797)).toThrow(/no image 1797: the set has 1797/);
  });

  const shape = { height: 2, width: 3, channels: 1 } as const;
  it.each<[number, object, RegExp]>([
    [0, {}, /0 bytes, not one or more whole images of 2x3x1 \(6 bytes each\)/],
    [13, {}, /13 bytes/],
    [12, { labels: [1] }, /2 images, but 1 labels/],
    [12, { labels: [1, -2] }, /the label -2 of image 1 of 'images' is not a class/],
    [12, { labels: [0.5, 1] }, /the label 0.5 of image 0/],
    [12, { channels: 2 }, /2 channels: use 1, 3 or 4/],
    [12, { width: 0 }, /the width of the images of 'images' is 0/],
  ])('refuses %i bytes with %o', (bytes, options, message) => {
    const making = () => imagesFromArray(new Uint8Array(bytes), { ...shape, ...options });
    expect(making).toThrow(message);
    expect(making).toThrow(bytes % 6 === 0 && bytes > 0 ? InvalidArgumentError : DatasetError);
  });
});

describe('pointsFromArray', () => {
  it('gives the set that loadPoints makes of the same numbers, from any kind of array', async () => {
    const raw = syntheticPoints('moons', { count: 50, seed: 3 });
    const loaded = await loadPoints('moons', { n: 50, seed: 3 });
    expect(pointsFromArray(raw, 2, { name: 'moons' })).toEqual(loaded);
    expect(pointsFromArray([...raw], 2, { name: 'moons' })).toEqual(loaded);
    const plain = pointsFromArray([1, 2, 3], 1, { scaling: 'none' });
    expect(plain).toMatchObject({ data: Float32Array.of(1, 2, 3), count: 3, dims: 1, name: 'points' });
    expect(pointsFromArray([1, 2], 2, { columns: ['width', 'height'] }).columns).toEqual(['width', 'height']);
  });

  it.each<[number[], number, object, RegExp, typeof DatasetError]>([
    [[], 2, {}, /has 0 numbers/, DatasetError],
    [[1, 2, 3], 2, {}, /3 numbers, not one or more whole points of 2/, DatasetError],
    [[1, 2, 3, Number.NaN], 2, {}, /'points', point 1, axis 1: NaN is not a finite float32/, DatasetError],
    [[1, 1e39], 1, {}, /point 1, axis 0: 1e\+39/, DatasetError],
    [[1, 2], 0, {}, /have 0 dimensions/, InvalidArgumentError],
    [[1, 2], 1, { scaling: 'max' }, /scaling is 'max'/, InvalidArgumentError],
    [[1, 2], 2, { columns: ['x'] }, /have 2 dimensions, but columns is \["x"\]/, InvalidArgumentError],
    [[1, 2], 2, { columns: ['x', 'y\n'] }, /a column named "y\\n": a name is text on one line/, InvalidArgumentError],
    [[1, 2], 2, { columns: ['0', '1'] }, /columns 0, 1, which cannot be told from values/, InvalidArgumentError],
  ])('refuses %j as points of %i numbers with %o', (data, dims, options, message, Failure) => {
    expect(() => pointsFromArray(data, dims, options)).toThrow(message);
    expect(() => pointsFromArray(data, dims, options)).toThrow(Failure);
  });
});
