import { latin1OfBytes } from '../../../files/bytes.ts';
import { describeFile, startsWith } from '../../../files/known-files.ts';

/* Which files are images, by their names and by their first bytes. */

/** The images that are read, in words for messages. */
export const READ_FORMATS = 'PNG, JPEG, WebP, GIF, TIFF, AVIF, BMP or PPM';

const NAMES = /\.(png|apng|jpe?g|jpe|jfif|webp|gif|tiff?|avifs?|bmp|dib|p[bgnp]m)$/i;

/** Whether a file name is one of an image that is read; hidden files (`._x.jpg` of macOS archives) are not. */
export function isImageName(path: string): boolean {
  const name = nameOf(path);
  return NAMES.test(name) && !name.startsWith('.');
}

/** Whether the name of a file leaves open what it is. */
export function hasNoEnding(path: string): boolean {
  return !nameOf(path).includes('.');
}

/** Why a file that is not named as an image is left out. */
export function notAnImageName(path: string): string {
  const name = nameOf(path);
  const ending = name.lastIndexOf('.');
  return ending < 0 ? 'its name has no ending' : `'${name.slice(ending)}' is not the ending of an image that is read`;
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

type Format = 'PNG' | 'JPEG' | 'WebP' | 'GIF' | 'TIFF' | 'AVIF' | 'BMP' | 'Netpbm';

/**
 * First bytes of the formats that are decoded. Others (SVG, PDF) can refer to other files, or have no decoder here. The
 * second TIFF is BigTIFF.
 */
const READ: readonly { format: Format; at?: number; begins: string | readonly number[] }[] = [
  { format: 'PNG', begins: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a] },
  { format: 'JPEG', begins: [0xff, 0xd8, 0xff] },
  { format: 'GIF', begins: 'GIF8' },
  { format: 'WebP', at: 8, begins: 'WEBP' },
  ...['II*\0', 'II+\0', 'MM\0*', 'MM\0+'].map((begins) => ({ format: 'TIFF', begins }) as const),
  { format: 'BMP', begins: 'BM' },
  ...['P1', 'P2', 'P3', 'P4', 'P5', 'P6'].map((begins) => ({ format: 'Netpbm', begins }) as const),
];

const NOT_READ: readonly { what: string; begins: string | readonly number[] }[] = [
  { what: 'a JPEG XL image', begins: [0xff, 0x0a] },
  { what: 'a JPEG XL image', begins: '\0\0\0\x0cJXL ' },
  { what: 'a JPEG 2000 image', begins: '\0\0\0\x0cjP  ' },
  { what: 'a JPEG 2000 image', begins: [0xff, 0x4f, 0xff, 0x51] },
  { what: 'an icon (ICO)', begins: [0x00, 0x00, 0x01, 0x00] },
  { what: 'a Photoshop document', begins: '8BPS' },
  { what: 'an OpenEXR image', begins: [0x76, 0x2f, 0x31, 0x01] },
  { what: 'a Radiance HDR image', begins: '#?' },
  { what: 'a DDS texture', begins: 'DDS ' },
  { what: 'a PAM image', begins: 'P7' },
  { what: 'a PFM image', begins: 'PF' },
  { what: 'a PFM image', begins: 'Pf' },
  { what: 'an SVG drawing', begins: '<svg' },
  { what: 'an XML file', begins: '<?xml' },
];

/** @throws an error that says what the bytes are instead, as far as that is known. */
export function imageFormatOf(bytes: Uint8Array): Format {
  if (bytes.length === 0) throw new Error('the file is empty');
  const format = READ.find(({ begins, at }) => startsWith(bytes, begins, at))?.format ?? heifFormat(bytes);
  if (format) return format;
  const what = NOT_READ.find(({ begins }) => startsWith(bytes, begins))?.what ?? describeFile(bytes);
  if (what === undefined) throw new Error(`not a ${READ_FORMATS} image`);
  throw new Error(`it is ${what}: not a ${READ_FORMATS} image`);
}

/** Formats in the boxes of ISO 14496-12: the first box lists the brands that the file follows, the main one first. */
function heifFormat(bytes: Uint8Array): 'AVIF' | undefined {
  if (!startsWith(bytes, 'ftyp', 4)) return undefined;
  const boxBytes = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0);
  const text = latin1OfBytes(bytes.subarray(0, Math.min(256, boxBytes)));
  const brands = [text.slice(8, 12), ...(text.slice(16).match(/[\s\S]{4}/g) ?? [])];
  if (brands.some((brand) => /^avi[fs]$/.test(brand))) return 'AVIF';
  if (brands.some((brand) => /^he[iv][cmsx]$/.test(brand)))
    throw new Error('it is a HEIC image (HEVC), which has no free decoder: convert it to PNG or JPEG');
  // Any codec can be inside; the decoder says which.
  if (brands.some((brand) => /^m[is]f1$/.test(brand))) return 'AVIF';
  throw new Error(`it is a video or sound ('${brands[0]}'): not a ${READ_FORMATS} image`);
}
