import {
  evaluate,
  imageGrid,
  imagesFromArray,
  loadImages,
  MemoryStore,
  OnnxFeatures,
  OpfsStore,
  pipeline,
  RandomStream,
  type Store,
  useStore,
} from 'iso-diffusion';

// Data and metrics, as far as Node.js and a browser should agree on them.

/** The digits that come with the package against noisy ones, by an ONNX extractor and by their pixels. */
export async function evaluateDigits(model: Uint8Array, real: 'digits') {
  const digits = await loadImages(real, { max_images: 300 });
  const stream = new RandomStream(7, 1);
  const noisy = Uint8Array.from({ length: 300 * 64 }, (_, i) =>
    Math.min(255, (digits.pixels(Math.floor(i / 64))[i % 64] ?? 0) + stream.integer(64)),
  );
  const fake = imagesFromArray(noisy, { height: 8, width: 8, channels: 1 });
  const extractor = await OnnxFeatures.load({ model: { name: 'model.onnx', bytes: model } });
  const options = { real, fake, num_real: 300, metrics: ['fid', 'kid', 'prdc'], kid_subset_size: 100 } as const;
  const byModel = await evaluate({ ...options, extractor });
  const byPixels = await evaluate({ ...options, extractor: 'raw-pixels' });
  await extractor.dispose();
  return { byModel, byPixels };
}

/** Points of a saved pipeline against the data set that they are of. */
export async function evaluatePoints(zip: Uint8Array) {
  const generate = await pipeline('unconditional-point-generation', zip, { device: 'cpu' });
  const generation = { num_inference_steps: 20 };
  const report = await evaluate({
    real: 'swiss-roll',
    fake: generate,
    num_samples: 500,
    generation,
    metrics: ['prdc'],
  });
  await generate.dispose();
  return report.metrics;
}

/** Image files with their paths below a folder that was dropped. */
export async function openFiles(files: Readonly<Record<string, Uint8Array>>, resolution?: number) {
  const given = Object.entries(files).map(([path, bytes]) => {
    const file = new File([new Uint8Array(bytes)], path.split('/').at(-1) ?? path);
    return Object.defineProperty(file, 'webkitRelativePath', { value: path });
  });
  const set = await loadImages(given, { resolution, on_warning: () => undefined });
  const { count, labels, classNames, skipped } = set;
  const pixels = Array.from({ length: count }, (_, i) => [...set.pixels(i)]);
  return { labels: labels && [...labels], classNames, skipped, pixels };
}

/** What opening a list of files says that it cannot. */
export async function refusedFiles(files: Readonly<Record<string, Uint8Array>>): Promise<string> {
  return openFiles(files).then(
    () => 'nothing',
    (error: Error) => error.message,
  );
}

/** Twelve images of 5 x 4 pixels on white, as a PNG file. */
export function gridOf(pixels: Uint8Array): Promise<Uint8Array> {
  return imageGrid({ data: pixels, count: 12, height: 5, width: 4, channels: 3 }, { scale: 3, columns: 4 });
}

/** Points of a pipeline at an address, or why there are none. */
export async function drawFrom(address: string): Promise<number[] | string> {
  try {
    const generate = await pipeline('unconditional-point-generation', address, { device: 'cpu' });
    const { points } = await generate({ batch_size: 3, num_inference_steps: 5, seed: 1 });
    await generate.dispose();
    return [...points];
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

/** What a store answers: the file system of the origin, or memory. */
export async function exerciseStore(kind: 'opfs' | 'memory'): Promise<unknown[]> {
  const store: Store = kind === 'opfs' ? await OpfsStore.open('exercised') : new MemoryStore();
  const failed = (error: { code?: string; message: string }) => error.code ?? error.message;
  const said: unknown[] = [];
  await store.remove('/a');
  await store.write('/a/b/one', Uint8Array.of(1, 2, 3, 4, 5));
  await store.append('/a/b/one', Uint8Array.of(6));
  await store.append('/a/two', Uint8Array.of(7));
  await store.makeFolder('/a/empty');
  said.push([...(await store.read('/a/b/one'))], [...(await store.read('/a/b/one', 1, 3))]);
  said.push(await store.stat('/a/b/one'), (await store.stat('/a/b'))?.kind, await store.stat('/a/none'));
  said.push((await store.list('/a')).sort());
  await store.rename('/a/two', '/a/b/one');
  await store.rename('/a/b', '/a/c');
  said.push([...(await store.read('/a/c/one'))], (await store.list('/a')).sort());
  said.push(await store.read('/a/b/one').catch(failed), await store.list('/a/b').catch(failed));
  await store.remove('/a/c');
  said.push((await store.list('/a')).sort());
  // Large, and replaced while it is there.
  await store.write('/a/large', new Uint8Array(3e6).fill(1));
  await store.write('/a/large', new Uint8Array(2e6).fill(2));
  const large = await store.read('/a/large');
  said.push(
    large.length,
    large.every((byte) => byte === 2),
  );
  await store.remove('/a');
  useStore();
  return said;
}
