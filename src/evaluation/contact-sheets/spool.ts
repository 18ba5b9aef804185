import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { FeatureImage } from '../extractors/feature-extractor.ts';
import type { EvaluationImages, PickedImage } from '../image-sources.ts';

/** Images that are drawn once: one pass writes them to a temporary file, from which some can be read again. */
export class SpooledImages {
  readonly images: EvaluationImages;
  private readonly size: number;
  private written = 0;

  private constructor(
    private readonly folder: string,
    private readonly file: FileHandle,
    private readonly drawn: EvaluationImages,
  ) {
    this.size = drawn.height * drawn.width * drawn.channels;
    this.images = {
      ...drawn,
      batches: (size, signal) => this.batches(size, signal),
      pick: (numbers) => this.pick(numbers),
    };
  }

  /** Makes the temporary file; `dispose` removes it. */
  static async create(drawn: EvaluationImages): Promise<SpooledImages> {
    const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-images-'));
    return new SpooledImages(folder, await open(path.join(folder, 'images'), 'w+'), drawn);
  }

  async dispose(): Promise<void> {
    await this.file.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  private async *batches(size: number, signal?: AbortSignal): AsyncGenerator<FeatureImage[]> {
    this.written = 0;
    for await (const batch of this.drawn.batches(size, signal)) {
      const bytes = Buffer.concat(batch.map(({ data }) => data));
      await this.file.write(bytes, 0, bytes.length, this.written * this.size);
      this.written += batch.length;
      yield batch;
    }
  }

  private async pick(numbers: ReadonlySet<number>): Promise<Map<number, PickedImage>> {
    const { height, width, channels } = this.drawn;
    const picked = new Map<number, PickedImage>();
    for (const index of numbers) {
      const data = new Uint8Array(this.size);
      await this.file.read(data, 0, this.size, index * this.size);
      picked.set(index, { image: { data, height, width, channels }, source: undefined });
    }
    return picked;
  }
}
