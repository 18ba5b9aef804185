import { DIGITS_FILE, digitsFile } from '#files/digits-file';
import { DatasetError } from '../../../errors.ts';
import { type ImageSource, labelColumnOf, type PlainImage, type SourceChoice } from './image-source.ts';
import { chosenSplit } from './splits.ts';

const SIDE = 8;
const PIXELS = SIDE * SIDE;
/** Pixels of the file are counts 0..16. */
const WHITE = 16;

/**
 * The 1,797 handwritten digits that come with this package: 8x8, grey, classes 0..9.
 * E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, CC BY 4.0 (assets/digits/README.md).
 */
export async function digitsSource(choice: SourceChoice): Promise<ImageSource> {
  chosenSplit('digits', ['digits'], () => undefined, choice);
  labelColumnOf([], choice, 'digits');
  const text = await unzipped(await digitsFile());
  const images = text
    .trim()
    .split('\n')
    .map((line, row) => digit(line.split(',').map(Number), row));
  return {
    name: 'digits',
    native: { height: SIDE, width: SIDE, channels: 1 },
    total: images.length,
    images: () => images,
  };
}

/** Some servers say that a `.gz` file is a text that they compressed: then the browser has unpacked it already. */
async function unzipped(bytes: Uint8Array): Promise<string> {
  if (bytes[0] !== 0x1f) return new TextDecoder().decode(bytes);
  const unpacked = new Blob([new Uint8Array(bytes)]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(unpacked).text();
}

function digit(values: readonly number[], row: number): PlainImage {
  if (values.length !== PIXELS + 1 || !values.every(Number.isInteger))
    throw new DatasetError(`${DIGITS_FILE}, row ${row}: not 65 whole numbers; install the package again`);
  const pixels = Uint8Array.from(values.slice(0, PIXELS), (value) => Math.round((value * 255) / WHITE));
  return { source: `digits, row ${row}`, label: values[PIXELS], pixels, height: SIDE, width: SIDE, channels: 1 };
}
