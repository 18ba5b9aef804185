import path from 'node:path';
import sharp from 'sharp';
import { loadImages } from '../../../src/datasets/index.ts';
import { sealPng } from '../mutations/containers.ts';
import { textMutations } from '../mutations/text.ts';
import { type FuzzedReader, single } from '../reader.ts';

/** Loads what `source` names in the folder of a case, with a cache of its own. */
export function loadFrom(folder: string, source: string, random_crop = false) {
  const cache_dir = path.join(folder, '.cache');
  return loadImages(path.join(folder, source), { resolution: 4, random_crop, cache_dir, num_workers: 2 });
}

/** 6x5 pixels of a gradient. */
export function picture(channels: 1 | 3 | 4 = 3) {
  const pixels = Uint8Array.from({ length: 30 * channels }, (_, i) => (i * 37) % 256);
  return sharp(pixels, { raw: { width: 6, height: 5, channels } });
}

/** Every kind of file by an ending of its own. Those that are not read shall be skipped with a reason. */
async function pictures(): Promise<Record<string, Uint8Array | string>> {
  const frames = sharp(new Uint8Array(4 * 8 * 3), { raw: { width: 4, height: 8, channels: 3, pageHeight: 4 } });
  return {
    'grey.png': await picture(1).png().toBuffer(),
    'rgba.png': await picture(4).png({ compressionLevel: 0 }).toBuffer(),
    'palette.png': await picture().png({ palette: true, progressive: true }).toBuffer(),
    'a.jpg': await picture().jpeg().toBuffer(),
    'progressive.jpeg': await picture().withMetadata({ orientation: 6 }).jpeg({ progressive: true }).toBuffer(),
    'cmyk.jpg': await picture().toColourspace('cmyk').jpeg().toBuffer(),
    'a.webp': await picture().webp().toBuffer(),
    'lossless.webp': await picture(4).webp({ lossless: true }).toBuffer(),
    'frames.gif': await frames.clone().gif().toBuffer(),
    'frames.webp': await frames.clone().webp().toBuffer(),
    'a.tiff': await picture().tiff({ compression: 'lzw' }).toBuffer(),
    'tiled.tif': await picture(4)
      .tiff({ compression: 'deflate', tile: true, tileWidth: 16, tileHeight: 16 })
      .toBuffer(),
    'jpeg.tif': await picture().tiff({ compression: 'jpeg' }).toBuffer(),
    'a.avif': await picture().avif({ effort: 0 }).toBuffer(),
    'a.heic': await picture().avif({ effort: 0, lossless: true }).toBuffer(),
    'a.bmp': bitmap(),
    'a.ppm': Buffer.concat([Buffer.from('P6\n# four\n2 2\n255\n'), new Uint8Array(12).fill(90)]),
    'a.pgm': 'P2\n3 2\n15\n1 2 3 4 5 6\n',
    'a.svg': '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="2" height="2"/></svg>',
  };
}

/** A bitmap of 3x2 pixels and 24 bits. */
export function bitmap(): Uint8Array {
  const bytes = Buffer.alloc(54 + 2 * 12, 0x80);
  bytes.write('BM');
  bytes.writeUInt32LE(bytes.length, 2);
  bytes.writeUInt32LE(0, 6);
  bytes.writeUInt32LE(54, 10);
  bytes.writeUInt32LE(40, 14);
  bytes.writeInt32LE(3, 18);
  bytes.writeInt32LE(2, 22);
  bytes.writeUInt16LE(1, 26);
  bytes.writeUInt16LE(24, 28);
  bytes.fill(0, 30, 54);
  return bytes;
}

/** One image in a folder. */
export const image: FuzzedReader = {
  async examples() {
    const png = await picture().png().toBuffer();
    return Object.entries(await pictures()).map(([name, bytes]) => {
      const files = single(`set/${name}`, bytes);
      // Those that are not read are beside one that is.
      return /\.(svg|heic)$/.test(name) ? files.set('set/a.png', png) : files;
    });
  },
  read: (folder) => loadFrom(folder, 'set'),
  mutations: [
    (bytes, stream, file) =>
      /\.(svg|p[gp]m)$/.test(file.name)
        ? textMutations[stream.integer(textMutations.length)]?.(bytes, stream, file)
        : undefined,
  ],
  seal(files) {
    for (const [name, bytes] of files) if (name.endsWith('.png')) files.set(name, sealPng(bytes));
  },
};
