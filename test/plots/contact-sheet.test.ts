import sharp from 'sharp';
import { expect, it } from 'vitest';
import { drawContactSheet, type SheetCell } from '../../src/plots/contact-sheet.ts';

function cell(color: readonly number[], side: number, name = 'a <b> & c'): SheetCell {
  const data = Uint8Array.from({ length: side * side * 3 }, (_, at) => color[at % 3] ?? 0);
  return { image: { data, height: side, width: side, channels: 3 }, name, lines: ['1.5 radii'] };
}

/** The box of the pixels of a colour: left, top, right, bottom. */
async function boxOf(png: Buffer, color: readonly number[]): Promise<number[]> {
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  const xs: number[] = [];
  const ys: number[] = [];
  for (let p = 0; p < info.width * info.height; p++) {
    if (color.some((value, c) => data[p * info.channels + c] !== value)) continue;
    xs.push(p % info.width);
    ys.push(Math.floor(p / info.width));
  }
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

const red = [255, 0, 0];
const blue = [0, 0, 255];

it('enlarges small images by a whole number, and lays them in rows', async () => {
  const png = Buffer.from(await drawContactSheet({ title: 'two', notes: [], rows: [[cell(red, 8)], [cell(blue, 8)]] }));
  const [left = 0, top = 0, right, bottom = 0] = await boxOf(png, red);
  expect([left, right, bottom]).toEqual([20, 20 + 112 - 1, top + 112 - 1]);
  const below = await boxOf(png, blue);
  expect([below[0], below[2]]).toEqual([left, right]);
  expect(below[1]).toBeGreaterThan(bottom + 32);
});

it('reduces large images, and sets the first of a row apart under its heading', async () => {
  const rows = [[cell(red, 448), cell(blue, 448)]];
  const headings = ['generated', 'nearest'] as const;
  const [plain, apart] = [
    Buffer.from(await drawContactSheet({ title: 'large', notes: [], rows })),
    Buffer.from(await drawContactSheet({ title: 'large', notes: [], rows, headings })),
  ];
  expect((await boxOf(plain, red))[2]).toBe(20 + 224 - 1);
  expect((await boxOf(plain, blue))[0]).toBe(20 + 224 + 12);
  expect((await boxOf(apart, blue))[0]).toBe(20 + 224 + 12 + 24);
});
