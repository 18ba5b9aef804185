import { requireFunction, requireObject } from '../arguments.ts';
import { GraphError, InvalidArgumentError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import {
  abs,
  add,
  cast,
  div,
  equal,
  exp,
  floor,
  log,
  mul,
  neg,
  square,
  stopGradient,
  sub,
} from '../graph/ops/elementwise.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { reduceMean, reduceSum } from '../graph/ops/reduce.ts';
import { reshape, transpose } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import { elementCount, fixedShape, formatType, sameShape } from '../graph/types.ts';
import type { LossConfig, LossResult, LossScalar } from './loss.ts';

// What an autoencoder minimises: the error of its reconstruction, and what keeps its latents in order.

/** What an autoencoder did with a batch: values of one graph, float32. */
export interface AutoencoderLossInputs {
  /** What was encoded, [batch, channels, height, width]. */
  readonly images: Value;
  /** What was decoded, of the same shape. */
  readonly reconstruction: Value;
  /** The normal distribution of each latent, mean and logarithm of the variance; default: the encoder gives none. */
  readonly posterior?:
    | {
        /** Of each latent. */
        readonly mean: Value;
        /** The logarithm of its variance. */
        readonly logvar: Value;
      }
    | undefined;
  /** The latents and their vectors of the codebook; default: there is none. */
  readonly codebook?: CodebookInputs | undefined;
  /** Scalars of the loss that are inputs of the graph, by name, float32 []; default none. See `LossInputs.scalars`. */
  readonly scalars?: Readonly<Record<string, Value>> | undefined;
}

/** Latents and the nearest vectors of a codebook. */
export interface CodebookInputs {
  /** Before they are quantised, [batch, channels, height, width]. */
  readonly latents: Value;
  /** The nearest vectors, of the same shape, with the gradient of the codebook. */
  readonly entries: Value;
  /** Where in the codebook they lie, integers. */
  readonly indices: Value;
  /** The number of vectors in the codebook. */
  readonly size: number;
}

/** A network that is not trained, by whose features images are compared. */
export interface PerceptualExtractor {
  /** What it is; a checkpoint can be continued only with an extractor of the same config. */
  readonly config: LossConfig;
  /**
   * Adds the network to the graph of `images`.
   *
   * @param images [batch, channels, height, width] in [-1, 1].
   * @returns its features, one value or several.
   */
  features(images: Value): readonly Value[];
}

/** The term that compares images by the features of a network. */
export interface PerceptualTerm {
  /** The network, such as `await OnnxFeatureMaps.load('vgg.onnx', { outputs: ['relu1_2', 'relu2_2'] })`. */
  readonly extractor: PerceptualExtractor;
  /** What its mean squared difference is multiplied with, at least 0 and finite; default 1. */
  readonly weight?: number | undefined;
}

/** The terms of `autoencoderLoss`, and their weights. */
export interface AutoencoderLossOptions {
  /** 'l1' (default), the mean absolute error of the values of images in [-1, 1]; or 'l2', the mean squared error. */
  readonly reconstruction?: 'l1' | 'l2' | undefined;
  /** Weight of the KL divergence of the latents from a standard normal, at least 0 and finite; default 1e-6. */
  readonly kl_weight?: number | undefined;
  /** Weight of what moves the codebook to the latents, at least 0 and finite; default 1. */
  readonly codebook_weight?: number | undefined;
  /** Weight of what keeps the latents at the codebook, the beta of VQ-VAE, at least 0 and finite; default 0.25. */
  readonly commitment_weight?: number | undefined;
  /** Compares images by the features of a network too; default: not. */
  readonly perceptual?: PerceptualTerm | undefined;
}

/** A function that adds the loss of an autoencoder to the graph of its inputs, with the configuration that names it. */
export type AutoencoderLoss = ((inputs: AutoencoderLossInputs) => LossResult) & {
  /** Names the loss and its options; a checkpoint is continued only by a loss of the same config. */
  readonly config: LossConfig;
  /** What may change while training runs, by name: the weights. */
  readonly scalars: Readonly<Record<string, LossScalar>>;
};

/**
 * The loss of `AutoencoderTrainer`, with the mean over all values r of the reconstruction error:
 *
 * - of an autoencoder with distributions (Kingma & Welling 2014; CompVis' `LPIPSWithDiscriminator` without its
 *   discriminator): r + kl_weight KL, where KL is 1/2 sum(mean^2 + var - 1 - log var) of an image, in the mean over the batch;
 * - of one with a codebook (van den Oord et al. 2017, eq. 3): r + codebook_weight |sg[z] - e|^2 +
 *   commitment_weight |z - sg[e]|^2, each in the mean over all values, where z are the latents, e the nearest vectors, and sg
 *   passes no gradient. diffusers' `VectorQuantizer` has the weight on the other of the two: for its loss give
 *   codebook_weight 0.25 and commitment_weight 1.
 *
 * The perceptual term is the mean squared difference of the features of images and reconstructions, in the mean over the
 * outputs of the network.
 *
 * Terms: `reconstruction`, and without their weights `kl`, or `codebook`, `commitment` and `perplexity`, and `perceptual`.
 * The perplexity is exp(-sum p log p) over the shares p that the vectors have of a batch: how many are in use.
 *
 * @throws {InvalidArgumentError} when an option is out of its range.
 * @example
 * const loss = autoencoderLoss({ reconstruction: 'l2', kl_weight: 1e-5 });
 */
export function autoencoderLoss(options: AutoencoderLossOptions = {}): AutoencoderLoss {
  requireObject('the argument of autoencoderLoss', options);
  const {
    reconstruction = 'l1',
    kl_weight = 1e-6,
    codebook_weight = 1,
    commitment_weight = 0.25,
    perceptual,
  } = options;
  if (reconstruction !== 'l1' && reconstruction !== 'l2')
    throw new InvalidArgumentError(`reconstruction must be 'l1' or 'l2', but is ${JSON.stringify(reconstruction)}`);
  const extractor = perceptual && checkedExtractor(perceptual);
  const perceptual_weight = perceptual?.weight ?? 1;
  const weights = {
    kl_weight,
    codebook_weight,
    commitment_weight,
    ...(perceptual ? { perceptual_weight } : {}),
  };
  for (const [name, value] of Object.entries(weights))
    if (!(Number.isFinite(value) && value >= 0))
      throw new InvalidArgumentError(`${name} must be a finite number >= 0, but is ${String(value)}`);

  const loss = (inputs: AutoencoderLossInputs): LossResult => {
    refuseDifferentShapes(inputs);
    const { images, posterior, codebook, scalars = {} } = inputs;
    const error = sub(inputs.reconstruction, images);
    const terms: Record<string, Value> = {
      reconstruction: reduceMean(reconstruction === 'l1' ? abs(error) : square(error)),
    };
    let total = terms.reconstruction as Value;
    const addWeighted = (name: string, weight: keyof typeof weights, term: Value) => {
      terms[name] = term;
      total = add(total, mul(term, scalars[weight] ?? scalarLike(term, weights[weight] ?? 0, weight)));
    };
    if (posterior) addWeighted('kl', 'kl_weight', divergence(posterior));
    if (codebook) {
      const { latents, entries } = codebook;
      addWeighted('codebook', 'codebook_weight', reduceMean(square(sub(entries, stopGradient(latents)))));
      addWeighted('commitment', 'commitment_weight', reduceMean(square(sub(latents, stopGradient(entries)))));
      terms.perplexity = perplexity(codebook);
    }
    if (extractor) addWeighted('perceptual', 'perceptual_weight', featureError(extractor, inputs));
    return { loss: total, terms };
  };
  const config = {
    name: 'autoencoder',
    reconstruction,
    ...weights,
    ...(extractor ? { extractor: extractor.config } : {}),
  };
  const scalars = Object.fromEntries(Object.entries(weights).map(([name, value]) => [name, { value, min: 0 }]));
  return Object.assign(loss, { config, scalars });
}

function checkedExtractor(perceptual: PerceptualTerm): PerceptualExtractor {
  requireObject('perceptual', perceptual);
  const { extractor } = perceptual;
  requireObject('perceptual.extractor', extractor);
  requireObject('the config of perceptual.extractor', extractor.config);
  requireFunction('perceptual.extractor.features', extractor.features);
  return extractor;
}

/** The mean over the batch of 1/2 sum(mean^2 + var - 1 - log var). */
function divergence({ mean, logvar }: { readonly mean: Value; readonly logvar: Value }): Value {
  const [batch = 1] = fixedShape(mean.shape);
  const one = scalarLike(mean, 1);
  const all = reduceSum(sub(sub(add(square(mean), exp(logvar)), one), logvar));
  return mul(all, scalarLike(all, 0.5 / batch));
}

/**
 * exp(-sum p log p). The counts are a product of two narrow tables of zeros and ones, because one as wide as the codebook
 * would be as large as all distances: vector k = row x columns + column is counted where its row and its column meet.
 */
function perplexity({ indices, size }: CodebookInputs): Value {
  const columns = Math.ceil(Math.sqrt(size));
  const rows = Math.ceil(size / columns);
  const count = elementCount(fixedShape(indices.shape));
  const at = reshape(cast(indices, 'float32'), [1, count]);
  const number = (value: number) => scalarLike(at, value);
  // A half keeps clear of whole quotients, whichever way a device rounds.
  const row = floor(div(add(at, number(0.5)), number(columns)));
  const column = sub(at, mul(row, number(columns)));
  const isAt = (positions: Value, length: number) => {
    const range = at.graph.constant(
      'float32',
      [length, 1],
      Float32Array.from({ length }, (_, i) => i),
    );
    return cast(equal(positions, range), 'float32');
  };
  const counts = matmul(isAt(row, rows), transpose(isAt(column, columns), [1, 0]));
  const share = mul(counts, number(1 / count));
  // 0 log 0 is 0.
  return exp(neg(reduceSum(mul(share, log(add(share, number(1e-10)))))));
}

/** The mean squared difference of the features, in the mean over the outputs of the network. */
function featureError(extractor: PerceptualExtractor, { images, reconstruction }: AutoencoderLossInputs): Value {
  const { config } = extractor;
  const wanted = extractor.features(images).map(stopGradient);
  const found = extractor.features(reconstruction);
  const [first, ...others] = wanted.map((feature, i) => {
    const reached = found[i];
    if (!reached || !sameShape(reached.shape, feature.shape))
      throw new GraphError(`the extractor '${config.name}' gives other features for the same shape of images`);
    return reduceMean(square(sub(reached, feature)));
  });
  if (!first) throw new GraphError(`the extractor '${config.name}' gives no features`);
  const sum = others.reduce(add, first);
  return mul(sum, scalarLike(sum, 1 / wanted.length));
}

/** Equal shapes are demanded because broadcasting would turn a mistake into a wrong loss instead of an error. */
function refuseDifferentShapes({ images, reconstruction, posterior, codebook }: AutoencoderLossInputs): void {
  const pairs = [
    ['reconstruction', reconstruction, 'images', images],
    ...(posterior ? [['logvar', posterior.logvar, 'mean', posterior.mean] as const] : []),
    ...(codebook ? [['entries', codebook.entries, 'latents', codebook.latents] as const] : []),
  ] as const;
  for (const [name, value, likeName, like] of pairs)
    if (value.dtype !== like.dtype || !sameShape(value.shape, like.shape))
      throw new GraphError(
        `loss 'autoencoder': ${name} is ${formatType(value)}, but ${likeName} is ${formatType(like)}: they must be alike`,
      );
}
