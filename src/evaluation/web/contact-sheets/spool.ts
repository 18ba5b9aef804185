import type { FeatureImage } from '../../extractors/feature-extractor.ts';
import type { EvaluationImages, PickedImage } from '../../image-sources.ts';

/** Images that are drawn once, and kept in memory. */
export class SpooledImages {
  readonly images: EvaluationImages;
  private kept: FeatureImage[] = [];

  private constructor(private readonly drawn: EvaluationImages) {
    this.images = {
      ...drawn,
      batches: (size, signal) => this.batches(size, signal),
      pick: (numbers) => this.pick(numbers),
    };
  }

  static async create(drawn: EvaluationImages): Promise<SpooledImages> {
    return new SpooledImages(drawn);
  }

  async dispose(): Promise<void> {
    this.kept = [];
  }

  private async *batches(size: number, signal?: AbortSignal): AsyncGenerator<FeatureImage[]> {
    this.kept = [];
    for await (const batch of this.drawn.batches(size, signal)) {
      this.kept.push(...batch.map((image) => ({ ...image, data: image.data.slice() })));
      yield batch;
    }
  }

  private async pick(numbers: ReadonlySet<number>): Promise<Map<number, PickedImage>> {
    const picked = new Map<number, PickedImage>();
    for (const number of numbers) {
      const image = this.kept[number];
      if (image) picked.set(number, { image, source: undefined });
    }
    return picked;
  }
}
