import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { loadPoints } from '../../src/datasets/index.ts';
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

  /** The (x, y) in pixels of every symbol of a kind, panel by panel. */
  const placesOf = (svg: string, color: string) =>
    [...svg.matchAll(/<path transform="translate\(([-\d.]+),([-\d.]+)\)"[^>]*fill="(#\w+)" fill-opacity/g)].flatMap(
      ([, x, y, fill]) => (fill === color ? [[Number(x), Number(y)]] : []),
    );

  it('draws a random choice of a sorted set, the same for the same seed', async () => {
    const moons = await loadPoints('moons', { n: 10_000 });
    const options = { max_points: 3000, size: 200 };
    const svg = await scatterPlot({ real: moons, fake: square, title: 'moons' }, options);
    const places = placesOf(svg, '#b5b5b5');
    expect(places).toHaveLength(3000);
    // The second moon is below 0: half of the points, give or take 3.5 deviations of a choice of 3,000 of 10,000.
    const below = places.filter(([, y = 0]) => y > 100).length / 3000;
    const belowInAll = Array.from({ length: 10_000 }, (_, i) => moons.data[2 * i + 1] ?? 0).filter((y) => y < 0).length;
    expect(Math.abs(below - belowInAll / 10_000)).toBeLessThan(3.5 * Math.sqrt((0.25 / 3000) * 0.7));
    const again = (seed: number) => scatterPlot({ real: moons, fake: square, title: 'moons' }, { ...options, seed });
    expect((await again(0)) === svg).toBe(true);
    expect(placesOf(await again(1), '#b5b5b5')).not.toEqual(places);
  });

  it('centres each title on its own panel, with a legend beside and names below', async () => {
    const real = { ...square, columns: ['width [m]', 'height'] };
    const panels = ['a', 'b', 'c', 'd'].map((title) => ({ real, fake: square, title }));
    const svg = await scatterPanels(panels, { size: 200, columns: 2 });
    const titles = [
      ...svg.matchAll(/role-title"><g transform="translate\(([-\d.]+),[\s\S]*?translate\(([-\d.]+),[^>]*>(\w)</g),
    ].map(([, group, text, title]) => [title, Number(group) + Number(text)]);
    expect(titles).toEqual(['a', 'b', 'c', 'd'].map((title) => [title, 100]));
    const long = await scatterPanels([{ real, fake: square, title: 'x'.repeat(50) }], { size: 200 });
    expect(long).toMatch(/font-size="6.8px"[^>]*>x{50}</);
    expect(svg.match(/>width \[m\]</g)).toHaveLength(4);
    expect(svg.match(/>height</g)).toHaveLength(4);
    expect(svg).toContain('>real<');
  });

  it('draws generated points alone, and calls none of them real', async () => {
    const svg = await scatterPlot({ fake: square, title: 'alone' });
    expect(placesOf(svg, '#0072B2').length).toBeGreaterThanOrEqual(4);
    expect(svg).not.toContain('>real<');
    expect(svg).not.toContain('#b5b5b5');
  });

  it.each([{ max_points: 0 }, { max_points: 1.5 }, { seed: -1 }])('refuses %j', async (options) => {
    await expect(scatterPlot({ fake: square, title: 't' }, options)).rejects.toThrow(InvalidArgumentError);
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

  it('draws a series of one point as a dot in its colour', async () => {
    const line = { name: 'DDPM', x: [0, 2], y: [3, 1] };
    const dots = (svg: string) => svg.match(/<path [^>]*d="M[^"]*A[^"]*"[^>]*>/g) ?? [];
    expect(dots(await curvePlot({ series: [line], ...plot }))).toEqual([]);
    const drawn = dots(await curvePlot({ series: [line, { name: 'Iso', x: [1], y: [2] }], ...plot }));
    expect(drawn).toHaveLength(1);
    expect(drawn[0]).toContain('translate(260,'); // the middle of 520 pixels
    expect(drawn[0]).toContain('#D55E00');
    expect(dots(await curvePlot({ series: [{ name: 'alone', x: [5], y: [5] }], ...plot }))).toHaveLength(1);
  });

  it('refuses what cannot be drawn', async () => {
    await expect(curvePlot({ series: [], ...plot })).rejects.toThrow(/no series/);
    await expect(curvePlot({ series: [{ name: 'a', x: [1], y: [] }], ...plot })).rejects.toThrow(InvalidArgumentError);
    await expect(curvePlot({ series: [{ name: 'a', x: [1], y: [0] }], log_y: true, ...plot })).rejects.toThrow(
      /logarithmic/,
    );
    await expect(curvePlot({ series: [{ name: 'a', x: [0], y: [1] }], log_x: true, ...plot })).rejects.toThrow(
      /\(0, 1\) at 0, which cannot be drawn on a logarithmic axis/,
    );
  });

  it('has powers at even distances on a logarithmic axis', async () => {
    const svg = await curvePlot({ series: [{ name: 'a', x: [1, 10, 100], y: [1, 1, 1] }], log_x: true, ...plot });
    const [, , middle, end] = /M(0),[\d.]+L([\d.]+),[\d.]+L([\d.]+),/.exec(svg) ?? [];
    expect(Number(middle) / Number(end)).toBeCloseTo(0.5);
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
