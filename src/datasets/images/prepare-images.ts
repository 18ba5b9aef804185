import { hasThreads, startScript } from '#threads/scripts';
import { BundleError } from '../../errors.ts';
import type { Channel } from '../../threads/channel.ts';
import { parallelSessions } from '../../threads/threads.ts';
import { inOrder, type PreparedImage, prepareImage } from './decode.ts';
import type { ImageFormat, SizedPixels, SkippedImage } from './image-set.ts';
import type { EncodedImage, ImageFile, ImageSource, SourceImage } from './sources/image-source.ts';

/** Fewer JPEG files than this are decoded in less time than threads take to start. */
const FILES_BEFORE_THREADS = 100;

/** A thread is asked for several images at once, because a message takes as long as a tenth of an image. */
const MAX_GROUP = 16;
/** What they may have in all, resized, and as files where those are in memory. */
const GROUP_BYTES = 2 ** 20;

/**
 * The images of a source in its order, each turned into `format`, or with the reason why it was not. At most
 * `workers` images are in memory at a time, or groups of small JPEG files; their decoding overlaps.
 */
export async function* prepareImages(
  source: ImageSource,
  format: ImageFormat,
  workers: number,
): AsyncGenerator<PreparedImage | SkippedImage> {
  const threads = new DecodingThreads(format, Math.min(workers, parallelSessions()));
  try {
    const groups = threads.groups(source.images());
    for await (const group of inOrder(groups, workers, (images) => threads.prepare(images))) yield* group;
  } finally {
    await threads.release();
  }
}

/** Images, or the paths of their files. */
export interface DecodeRequest {
  readonly images: readonly (Uint8Array | string)[];
  readonly format: ImageFormat;
}

/** Undefined for what is not one of the usual JPEG files. */
export type DecodeAnswer = (SizedPixels | undefined)[];

interface DecodingThread {
  readonly channel: Channel<DecodeRequest, DecodeAnswer>;
  waiting: number;
}

/** Threads that read and decode JPEG files: that takes the thread's own time. sharp has threads for the others. */
class DecodingThreads {
  private started: DecodingThread[] = [];
  private readonly ready: DecodingThread[] = [];
  private readonly groupSize: number;

  constructor(
    private readonly format: ImageFormat,
    private readonly count: number,
  ) {
    const bytes = format.height * format.width * format.channels;
    this.groupSize = Math.min(MAX_GROUP, Math.max(1, Math.floor(GROUP_BYTES / bytes)));
  }

  /** Consecutive JPEG files together once there are threads for them, other images one by one. */
  async *groups(images: AsyncIterable<SourceImage> | Iterable<SourceImage>): AsyncGenerator<SourceImage[]> {
    let files = 0;
    let group: (EncodedImage | ImageFile)[] = [];
    let bytes = 0;
    for await (const image of images) {
      if (isJpeg(image) && ++files === FILES_BEFORE_THREADS) this.start();
      if (isJpeg(image) && this.ready.length > 0) {
        group.push(image);
        bytes += 'encoded' in image ? image.encoded.length : 0;
        if (group.length < this.groupSize && bytes < GROUP_BYTES) continue;
      }
      if (group.length > 0) yield group;
      if (group.at(-1) !== image) yield [image];
      group = [];
      bytes = 0;
    }
    if (group.length > 0) yield group;
  }

  /** Never rejects. */
  async prepare(group: readonly SourceImage[]): Promise<(PreparedImage | SkippedImage)[]> {
    const decoded = await this.decode(group.filter(isJpeg));
    const prepared: (PreparedImage | SkippedImage)[] = [];
    for (const image of group) {
      const pixels = isJpeg(image) ? decoded.shift() : undefined;
      prepared.push(
        pixels && isJpeg(image)
          ? { source: image.source, label: image.label, ...pixels }
          : await prepareImage(image, this.format),
      );
    }
    return prepared;
  }

  /** Nothing where no thread can do it. */
  private async decode(images: readonly (EncodedImage | ImageFile)[]): Promise<DecodeAnswer> {
    const [first, ...others] = this.ready;
    if (!first || images.length === 0) return [];
    const thread = others.reduce((idlest, other) => (other.waiting < idlest.waiting ? other : idlest), first);
    thread.waiting++;
    try {
      return await thread.channel.call({ images: images.map(contentOf), format: this.format });
    } catch {
      // The thread has ended, perhaps for want of memory: this one can still do without.
      return [];
    } finally {
      thread.waiting--;
    }
  }

  async release(): Promise<void> {
    await Promise.all(this.started.map(({ channel }) => channel.release()));
  }

  private start(): void {
    if (!hasThreads || this.count < 2) return;
    try {
      this.started = Array.from({ length: this.count }, () => ({
        channel: startScript<DecodeRequest, DecodeAnswer>('datasets/images/decode-worker.ts', null),
        waiting: 0,
      }));
    } catch (error) {
      // In a bundle of an application without this package, images are decoded on this thread.
      if (!(error instanceof BundleError)) throw error;
    }
    for (const thread of this.started)
      thread.channel.started().then(
        () => this.ready.push(thread),
        () => undefined,
      );
  }
}

function isJpeg(image: SourceImage): image is EncodedImage | ImageFile {
  if ('path' in image) return /\.jpe?g$/i.test(image.path);
  return 'encoded' in image && image.encoded[0] === 0xff && image.encoded[1] === 0xd8;
}

function contentOf(image: EncodedImage | ImageFile): Uint8Array | string {
  if ('path' in image) return image.path;
  // A part of a larger buffer would be sent with all of that.
  const { encoded } = image;
  return encoded.length < encoded.buffer.byteLength ? Uint8Array.from(encoded) : encoded;
}
