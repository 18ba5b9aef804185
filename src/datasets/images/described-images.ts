import { InvalidArgumentError } from '../../errors.ts';
import { exists } from '../../files/regular-file.ts';
import { HUB_ID } from '../../hub/hub-options.ts';
import { parseOptions } from '../../options.ts';
import type { ImageSet } from './image-set.ts';
import { imageFormat, type LoadImagesOptions, loadImagesOptions, openImages } from './load-images.ts';
import { oxfordSet } from './sources/oxford.ts';

/**
 * Images in the number, size and classes of those that `loadImages` would give, but all black: nothing is decoded, downloaded
 * or written. Where the source does not say how many there are before it is read, they are `max_images`.
 *
 * @param source as of `loadImages`; undefined: images that are not there yet. One that would be downloaded is not opened.
 * @param options as of `loadImages`. @param options.unknownCount what stands for a number that is not known; default: it is refused.
 * @throws {InvalidArgumentError} when an option is wrong, the source is none of images, or their number is not known.
 * @throws {DatasetError} when the source cannot be opened.
 */
export async function describedImages(
  source: string | undefined,
  { unknownCount, ...options }: LoadImagesOptions & { readonly unknownCount?: number | undefined },
): Promise<ImageSet> {
  const checked = parseOptions(loadImagesOptions, options, 'options of the images');
  const { max_images = Number.POSITIVE_INFINITY, data_dir } = checked;
  const isElsewhere =
    source === undefined ||
    (HUB_ID.test(source) && !(await exists(source))) ||
    (oxfordSet(source) !== undefined && data_dir === undefined);
  const { images, format } = isElsewhere
    ? { images: undefined, format: imageFormat({}, checked) }
    : await openImages(source, checked, () => undefined);
  const count = Math.min(max_images, images?.total ?? (checked.max_images === undefined ? Number.NaN : max_images));
  const known = Number.isNaN(count) ? unknownCount : count;
  if (known === undefined)
    throw new InvalidArgumentError(
      `how many images ${source === undefined ? 'there are' : `'${source}' has`} is not known before they are read: say it with --n, or how long the run is with --max-steps`,
    );
  const { height, width, channels } = format;
  const black = new Uint8Array(height * width * channels);
  return {
    name: images?.name ?? source ?? 'images',
    count: known,
    height,
    width,
    channels,
    labels: new Int32Array(known),
    classNames: images?.classNames,
    skipped: [],
    pixels: () => black,
    fingerprint: '',
  };
}
