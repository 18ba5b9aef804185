import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { resizeImage } from '../../../src/datasets/images/resize.ts';

/*
 * Images of several strips (`STRIP_BYTES` in image-kernels.ts), and one whose rows are longer than a strip. By Pillow 9.4:
 *   y, x, k = np.mgrid[0:h, 0:w, 0:c]
 *   image = Image.fromarray(((x*7 + y*13 + k*31 + (x*y) % 251) % 256).astype(np.uint8))
 *   hashlib.sha256(image.resize((width, height), filter).tobytes()).hexdigest()
 */
it.each([
  [[701, 503, 3], [89, 64], 'bilinear', 'ffec018271dda2243125c4126d3bea2747fa78cca54546702d00f0315275b1de'],
  [[503, 701, 1], [64, 89], 'bicubic', 'b0af7df82ab697569f9c7e0c3e7fe747d2f020ba540c2202495bb392d27cbfff'],
  [[701, 503, 4], [89, 64], 'lanczos', '49c4ad7254088e40322a8d8f44438c4288168920ffdd30e74f5294fca3c43a5f'],
  [[90, 130, 3], [401, 299], 'bicubic', 'ae86e4a1d98bf02799f9240697461bba81952a1850a32302de2e80290bef6bf1'],
  [[2, 300_000, 3], [3, 70], 'bilinear', '5a91ec0eb2b64d48f3461a41fdbf15da9889061cf3f803e0414ab49eaf931029'],
] as const)("gives Pillow's bytes of a large image: %j to %j, %s", ([height, width, channels], to, filter, sha256) => {
  const pixels = new Uint8Array(height * width * channels);
  let at = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let k = 0; k < channels; k++) pixels[at++] = x * 7 + y * 13 + k * 31 + ((x * y) % 251);
  const [keptHeight, keptWidth] = to;
  const whole = { height: keptHeight, width: keptWidth, top: 0, left: 0, keptHeight, keptWidth };
  const resized = resizeImage(pixels, { height, width, channels }, whole, filter);
  expect(createHash('sha256').update(resized).digest('hex')).toBe(sha256);
});
