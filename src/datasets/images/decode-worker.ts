import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { serve } from '../../threads/channel.ts';
import { decodeNow } from './decode.ts';
import type { DecodeAnswer, DecodeRequest } from './prepare-images.ts';
import { MAX_ENCODED_BYTES } from './sources/image-source.ts';

/** A thread behind `prepareImages`. */
serve<DecodeRequest, DecodeAnswer>(
  ({ images, format }) =>
    images.map((image) => {
      const encoded = typeof image === 'string' ? contentOf(image) : image;
      return encoded && decodeNow(encoded, format);
    }),
  (answer) => answer.flatMap((image) => (image ? [image.pixels.buffer as ArrayBuffer] : [])),
);

let content = new Uint8Array();

/**
 * A regular file, read without waiting, which takes a tenth of the processor's time. Valid until the next one. Undefined
 * for what cannot be read: the thread that asked says why.
 */
function contentOf(path: string): Uint8Array | undefined {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const status = fstatSync(descriptor);
    if (!status.isFile() || status.size > MAX_ENCODED_BYTES) return undefined;
    if (content.length < status.size) content = new Uint8Array(2 * status.size);
    const length = readSync(descriptor, content, 0, status.size, 0);
    return length === status.size ? content.subarray(0, length) : undefined;
  } catch {
    return undefined;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
