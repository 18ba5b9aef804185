import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { curvePlot, imagePanels, scatterPanels, scatterPlot, svgToPng, writePlot } from '../../src/plots/index.ts';

const points = (...data: number[]) => ({ data: Float32Array.from(data), count: data.length / 2, dims: 2 });
const square = points(0, 0, 1, 0, 1, 1, 0, 1);

describe('scatterPlot', () => {
  it('draws every point once, on equal axes, with the title escaped', async () => {
    const svg = await scatterPlot({ real: square, fake: points(0.5, 0.5), title: 'λ = 0.1 <script>' });
    const symbols = [...svg.matchAll(/aria-roledescription="symbol mark container".*?<\/g>/gs)].map(
      ([group]) => (group.match(/<path/g) ?? []).length,
    );
    expect(symbols).toEqual(expect.arrayContaining([4, 1]));
    expect(svg).toContain('λ = 0.1 &lt;script&gt;');
    const places = [...svg.matchAll(/<path transform="translate\(([\d.]+),([\d.]+)\)"/g)].map(([, x, y]) => [
      Number(x),
      Number(y),
    ]);
    const xs = places.map(([x = 0]) => x);
    const ys = places.map(([, y = 0]) => y);
    expect(Math.max(...xs) - Math.min(...xs)).toBeCloseTo(Math.max(...ys) - Math.min(...ys), 3);
  });

  it('thins what it draws', async () => {
    const many = points(...Array.from({ length: 2000 }, (_, i) => Math.sin(i)));
    const svg = await scatterPanels([{ real: many, fake: many, title: 'many' }], { max_points: 10 });
    expect(svg.length).toBeLessThan(20_000);
  });

  it.each([
    [points(), /at least one point/],
    [points(1, Number.NaN), /not all finite: point 0/],
    [{ ...square, dims: 3 }, /have 3 axes/],
  ])('refuses %j', async (real, message) => {
    await expect(scatterPlot({ real, fake: square, title: 't' })).rejects.toThrow(InvalidArgumentError);
    await expect(scatterPlot({ real, fake: square, title: 't' })).rejects.toThrow(message);
  });
});

describe('curvePlot', () => {
  const plot = { title: 'Loss', x_label: 'step', y_label: 'loss' };

  it('draws a line a series and a legend, as SVG and PNG', async () => {
    const series = ['DDPM', 'Iso'].map((name) => ({ name, x: [0, 1, 2], y: [3, 2, 1] }));
    const svg = await curvePlot({ series, ...plot });
    for (const text of ['DDPM', 'Iso', 'Loss', 'step']) expect(svg).toContain(`>${text}<`);
    const { width = 0, format } = await sharp(await svgToPng(svg)).metadata();
    expect(format).toBe('png');
    expect(width).toBeGreaterThan(800);

    const folder = mkdtempSync(path.join(tmpdir(), 'iso-plot-'));
    await writePlot(path.join(folder, 'loss'), svg);
    expect(readdirSync(folder).sort()).toEqual(['loss.png', 'loss.svg']);
    rmSync(folder, { recursive: true });
  });

  it('refuses what cannot be drawn', async () => {
    await expect(curvePlot({ series: [], ...plot })).rejects.toThrow(/no series/);
    await expect(curvePlot({ series: [{ name: 'a', x: [1], y: [] }], ...plot })).rejects.toThrow(InvalidArgumentError);
    await expect(curvePlot({ series: [{ name: 'a', x: [1], y: [0] }], log_y: true, ...plot })).rejects.toThrow(
      /logarithmic/,
    );
  });
});

describe('imagePanels', () => {
  const white = (count: number) => ({
    data: new Uint8Array(count * 12).fill(255),
    count,
    height: 2,
    width: 2,
    channels: 3 as const,
  });

  it('puts titled grids side by side', async () => {
    const png = await imagePanels(
      [
        { title: 'real & <rare>', images: white(4) },
        { title: 'drawn', images: white(1) },
      ],
      { scale: 10 },
    );
    // Grids of 2x2 and 1x1 images of 20 pixels with gaps of 2; 18 around, 34 for the titles.
    expect(await sharp(png).metadata()).toMatchObject({
      format: 'png',
      width: 18 + 46 + 18 + 24 + 18,
      height: 34 + 46 + 18,
    });
    // White images on white: what is dark is the titles, and they are above the grids.
    const { data, info } = await sharp(png).greyscale().raw().toBuffer({ resolveWithObject: true });
    const rows = [...data].flatMap((value, i) => (value < 128 ? [Math.floor(i / info.width)] : []));
    expect(rows.length).toBeGreaterThan(0);
    expect(Math.max(...rows)).toBeLessThan(34);
  });

  it('refuses no panels, and data of another size', async () => {
    await expect(imagePanels([])).rejects.toThrow(InvalidArgumentError);
    const wrong = { ...white(1), count: 2 };
    await expect(imagePanels([{ title: 'x', images: wrong }])).rejects.toThrow(InvalidArgumentError);
  });
});
