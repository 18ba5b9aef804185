import { type Layer, layeredPng, scaledPng } from '#platform/image-codec';

/** One image of a sheet, 8 bits, [height, width, channels], with what is written below it. */
export interface SheetCell {
  readonly image: {
    readonly data: Uint8Array;
    readonly height: number;
    readonly width: number;
    readonly channels: 1 | 3;
  };
  /** Its name; the middle is left out where it is too long. */
  readonly name: string;
  /** Lines below the name. */
  readonly lines: readonly string[];
  /** Colour of the lines; default grey. */
  readonly color?: string | undefined;
}

/** A page of images in rows. All images have one size. */
export interface ContactSheet {
  readonly title: string;
  /** Sentences below the title, which are broken into lines. */
  readonly notes: readonly string[];
  readonly rows: readonly (readonly SheetCell[])[];
  /** What the first image of each row is, and what the others are: the first stands apart. Default: they are of one kind. */
  readonly headings?: readonly [first: string, others: string] | undefined;
}

const MARGIN = 20;
const GAP = 12;
const LINE = 16;
/** Sides between these are drawn as they are: smaller images are enlarged by a whole number, larger ones reduced. */
const SIDES = { least: 112, most: 224 };
const LEAST_WIDTH = 760;
/** Mean advance of usual sans-serif fonts in parts of their size: of sentences, and of names with many wide letters. */
const ADVANCE = { sentence: 0.56, name: 0.66 };

interface Text {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly size: number;
  readonly color: string;
}

/** Draws a sheet as a PNG file. */
export async function drawContactSheet({ title, notes, rows, headings }: ContactSheet): Promise<Uint8Array> {
  const [first] = rows.flat();
  const shown = first ? shownSize(first.image) : { width: 0, height: 0 };
  const cellWidth = Math.max(shown.width, SIDES.least);
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const apart = headings ? 2 * GAP : 0;
  const width = Math.max(LEAST_WIDTH, 2 * MARGIN + columns * (cellWidth + GAP) - GAP + apart);
  const texts: Text[] = [];
  const layers: Layer[] = [];
  let y = MARGIN + 16;
  texts.push({ text: title, x: MARGIN, y, size: 18, color: '#111111' });
  for (const line of notes.flatMap((note) => broken(note, width - 2 * MARGIN, 13))) {
    y += LINE + 2;
    texts.push({ text: line, x: MARGIN, y, size: 13, color: '#555555' });
  }
  y += GAP;
  const left = (column: number) => MARGIN + column * (cellWidth + GAP) + (column > 0 ? apart : 0);
  if (headings && rows.length > 0) {
    y += LINE;
    headings.forEach((text, column) => {
      texts.push({ text, x: left(column), y, size: 13, color: '#111111' });
    });
  }
  y += GAP;
  for (const row of rows) {
    for (const [column, { image, name, lines, color = '#555555' }] of row.entries()) {
      const x = left(column);
      layers.push({ content: await drawnImage(image, shown), left: x, top: y });
      const line = { x, size: 12 };
      const at = y + shown.height + LINE;
      texts.push({ ...line, text: shortened(name, cellWidth, 12), y: at, color: '#111111' });
      lines.forEach((text, i) => {
        texts.push({ ...line, text, y: at + (i + 1) * LINE, color });
      });
    }
    y += shown.height + (1 + Math.max(0, ...row.map(({ lines }) => lines.length))) * LINE + 2 * GAP;
  }
  const height = y + (rows.length > 0 ? 0 : GAP);
  layers.push({ content: textSvg(texts, width, height), left: 0, top: 0 });
  return layeredPng({ width, height }, layers);
}

interface Size {
  readonly width: number;
  readonly height: number;
}

function shownSize({ width, height }: Size): Size {
  const side = Math.max(width, height);
  const scale = side >= SIDES.least ? Math.min(1, SIDES.most / side) : Math.ceil(SIDES.least / side);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

function drawnImage({ data, height, width, channels }: SheetCell['image'], shown: Size): Promise<Uint8Array> {
  return scaledPng({ pixels: data, height, width, channels }, shown);
}

function broken(text: string, width: number, size: number): string[] {
  const most = Math.floor(width / (ADVANCE.sentence * size));
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= most) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** The end of a file's name says most. */
function shortened(text: string, width: number, size: number): string {
  const most = Math.max(8, Math.floor(width / (ADVANCE.name * size)));
  if (text.length <= most) return text;
  const start = Math.floor((most - 1) / 4);
  return `${text.slice(0, start)}…${text.slice(text.length - (most - 1 - start))}`;
}

function textSvg(texts: readonly Text[], width: number, height: number): string {
  const lines = texts.map(({ text, x, y, size, color }) => {
    const safe = text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
    return `<text x="${x}" y="${y}" font-size="${size}" fill="${color}">${safe}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif">${lines.join('')}</svg>`;
}
