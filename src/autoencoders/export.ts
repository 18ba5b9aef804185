import { Graph, type GraphTarget, type Value } from '../graph/graph.ts';
import { concat } from '../graph/ops/shape.ts';
import { requireWeights } from '../models/model.ts';
import { ForwardContext } from '../nn/context.ts';
import type { ParameterSpec } from '../nn/parameters.ts';
import { type Autoencoder, latentSize, type VqDecodeOptions } from './autoencoder.ts';

type Weights = ReadonlyMap<string, Float32Array>;
type Size = readonly [height: number, width: number];

/** How the two halves of an autoencoder are exported. */
export interface ExportAutoencoderOptions {
  /** [height, width] of the images in pixels, multiples of `downsampling`; default the autoencoder's `sampleSize`. */
  readonly size?: Size | undefined;
  /** Where the graph is going to run; default `any`, the form of files. */
  readonly target?: GraphTarget | undefined;
}

/**
 * The encoder with `weights` put in, ready to be written as ONNX; its names are those that optimum gives to the encoders of
 * diffusers. Input `sample`: images, float32 ['batch_size', channels, height, width] in [-1, 1]. Output, of a KL
 * autoencoder `latent_parameters`: mean and logarithm of the variance, joined along the channels; of a VQ autoencoder
 * `latent_sample`: the latents before they are quantised.
 *
 * @throws {InvalidArgumentError} when `weights` lacks a parameter, has an unknown one, or one of a wrong size, or the size
 * does not fit.
 * @example
 * const bytes = writeOnnx(exportEncoderGraph(autoencoder, weights));
 */
export function exportEncoderGraph(
  autoencoder: Autoencoder,
  weights: Weights,
  { size = autoencoder.sampleSize, target = 'any' }: ExportAutoencoderOptions = {},
): Graph {
  requireWeights(autoencoder, weights);
  latentSize(autoencoder, size);
  const { graph, context } = graphOf(autoencoder, weights, 'encoder', target);
  const sample = graph.input('sample', 'float32', ['batch_size', autoencoder.channels, ...size]);
  if (autoencoder.kind === 'vq') graph.output('latent_sample', autoencoder.encode(sample, context).latents);
  else {
    const { mean, logvar } = autoencoder.encode(sample, context);
    graph.output('latent_parameters', concat([mean, logvar], 1));
  }
  return graph;
}

/**
 * The decoder with `weights` put in. Input `latent_sample`: latents that are not scaled, float32 ['batch_size',
 * latentChannels, height / downsampling, width / downsampling]. Output `sample`: images, about in [-1, 1].
 *
 * @param options.force_not_quantize of a VQ autoencoder, see `VqDecodeOptions`; default false.
 * @throws {InvalidArgumentError} as `exportEncoderGraph`.
 */
export function exportDecoderGraph(
  autoencoder: Autoencoder,
  weights: Weights,
  {
    size = autoencoder.sampleSize,
    target = 'any',
    force_not_quantize,
  }: ExportAutoencoderOptions & VqDecodeOptions = {},
): Graph {
  requireWeights(autoencoder, weights);
  const { graph, context } = graphOf(autoencoder, weights, 'decoder', target);
  const shape = ['batch_size', autoencoder.latentChannels, ...latentSize(autoencoder, size)];
  const latents = graph.input('latent_sample', 'float32', shape);
  const images =
    autoencoder.kind === 'vq'
      ? autoencoder.decode(latents, context, { force_not_quantize })
      : autoencoder.decode(latents, context);
  graph.output('sample', images);
  return graph;
}

/** A graph that gets those parameters that are asked for, as constants with the names of the state dict. */
function graphOf({ config, parameters }: Autoencoder, weights: Weights, half: string, target: GraphTarget) {
  const modelName = config._class_name;
  const graph = new Graph(`${modelName} ${half}`, undefined, target);
  const specs = new Map(parameters.map((spec) => [spec.name, spec]));
  const constants = new Map<string, Value>();
  const constant = ({ name, shape }: ParameterSpec) => {
    const value =
      constants.get(name) ?? graph.constant('float32', shape, weights.get(name) ?? new Float32Array(), name);
    constants.set(name, value);
    return value;
  };
  const values = {
    get: (name: string) => {
      const spec = specs.get(name);
      return spec && constant(spec);
    },
  };
  return { graph, context: new ForwardContext(values, { modelName }) };
}
