// A diffusion transformer (Peebles & Xie 2023): patches, blocks with adaLN-Zero, patches back to an image.
import { type DiffusionModel, type ForwardContext, InvalidArgumentError, type ModelInputs } from 'iso-diffusion';
import { add, mul, reshape, scalarLike, silu, transpose, unsqueeze, type Value } from 'iso-diffusion/graph';
import {
  Attention,
  type Layer,
  LayerNorm,
  Linear,
  normal,
  type ParameterSpec,
  parametersOf,
  TimeEmbedding,
  zeros,
} from 'iso-diffusion/nn';
import { softsign } from './softsign.js';

export interface TinyDiTOptions {
  readonly sample_size?: number;
  readonly channels?: number;
  readonly patch_size?: number;
  readonly hidden_size?: number;
  readonly depth?: number;
  readonly num_heads?: number;
}

export class TinyDiT implements DiffusionModel {
  readonly config: Required<TinyDiTOptions> & { readonly _class_name: 'TinyDiT' };
  readonly parameters: readonly ParameterSpec[];
  readonly sampleShape: readonly number[];
  readonly takesFractionalTimesteps = true;
  private readonly layers: ReturnType<typeof makeLayers>;

  constructor(options: TinyDiTOptions = {}) {
    const { sample_size = 8, channels = 1, patch_size = 2, hidden_size = 16, depth = 2, num_heads = 2 } = options;
    if (sample_size % patch_size !== 0)
      throw new InvalidArgumentError(`patches of ${patch_size} pixels do not fill ${sample_size} pixels`);
    this.config = {
      _class_name: 'TinyDiT',
      sample_size,
      channels,
      patch_size,
      hidden_size,
      depth,
      num_heads,
    };
    this.sampleShape = [channels, sample_size, sample_size];
    this.layers = makeLayers(this.config);
    const { embed, time, blocks, norm, last } = this.layers;
    this.parameters = [
      { name: 'position', shape: [(sample_size / patch_size) ** 2, hidden_size], init: normal(0.02) },
      ...parametersOf([embed, time, ...blocks, norm, last]),
    ];
  }

  static fromConfig(json: unknown): TinyDiT {
    return new TinyDiT(json as TinyDiTOptions);
  }

  forward({ sample, timestep }: ModelInputs, context: ForwardContext): Value {
    const { embed, time, blocks, norm, last } = this.layers;
    const condition = silu(time.forward(timestep, context));
    let x = add(embed.forward(this.toPatches(sample), context), context.parameter('position'));
    for (const block of blocks)
      x = context.checkpoint((y, c = condition) => block.forward(y, c, context), [x, condition]);
    return this.toImage(last.forward(norm.forward(x, context), context));
  }

  /** [batch, channels, height, width] to [batch, patches, values of a patch]. */
  private toPatches(image: Value): Value {
    const { channels, patch_size: p, sample_size } = this.config;
    const side = sample_size / p;
    const split = transpose(reshape(image, [0, channels, side, p, side, p]), [0, 2, 4, 1, 3, 5]);
    return reshape(split, [0, side * side, channels * p * p]);
  }

  private toImage(patches: Value): Value {
    const { channels, patch_size: p, sample_size } = this.config;
    const side = sample_size / p;
    const split = transpose(reshape(patches, [0, side, side, channels, p, p]), [0, 3, 1, 4, 2, 5]);
    return reshape(split, [0, channels, sample_size, sample_size]);
  }
}

function makeLayers({ channels, patch_size, hidden_size, depth, num_heads }: TinyDiT['config']) {
  const patch = channels * patch_size ** 2;
  return {
    embed: new Linear('embed', patch, hidden_size),
    time: new TimeEmbedding('time', { in_channels: 16, time_embed_dim: hidden_size }),
    blocks: Array.from({ length: depth }, (_, i) => new Block(`blocks.${i}`, hidden_size, num_heads)),
    norm: new LayerNorm('norm', hidden_size),
    last: new Linear('last', hidden_size, patch),
  };
}

class Block implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly norm: LayerNorm;
  private readonly attention: Attention;
  private readonly wide: Linear;
  private readonly narrow: Linear;
  private readonly modulations: readonly [Modulation, Modulation];

  constructor(name: string, size: number, heads: number) {
    this.norm = new LayerNorm(`${name}.norm`, size, { elementwise_affine: false, eps: 1e-6 });
    this.attention = new Attention(`${name}.attention`, size, heads);
    this.wide = new Linear(`${name}.mlp.0`, size, 2 * size);
    this.narrow = new Linear(`${name}.mlp.1`, 2 * size, size);
    this.modulations = [new Modulation(`${name}.modulation.0`, size), new Modulation(`${name}.modulation.1`, size)];
    this.parameters = parametersOf([this.norm, this.attention, this.wide, this.narrow, ...this.modulations]);
  }

  forward(x: Value, condition: Value, context: ForwardContext): Value {
    const [first, second] = this.modulations;
    const attend = (y: Value) => this.attention.forward(y, context);
    const perceive = (y: Value) => this.narrow.forward(softsign(this.wide.forward(y, context)), context);
    const middle = add(x, first.around(attend, this.norm.forward(x, context), condition, context));
    return add(middle, second.around(perceive, this.norm.forward(middle, context), condition, context));
  }
}

/** adaLN-Zero: the condition scales and shifts what goes into a layer, and scales what comes out; at first by 0. */
class Modulation implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly shift: Linear;
  private readonly scale: Linear;
  private readonly gate: Linear;

  constructor(name: string, size: number) {
    const options = { weight_init: zeros, bias_init: zeros };
    this.shift = new Linear(`${name}.shift`, size, size, options);
    this.scale = new Linear(`${name}.scale`, size, size, options);
    this.gate = new Linear(`${name}.gate`, size, size, options);
    this.parameters = parametersOf([this.shift, this.scale, this.gate]);
  }

  around(layer: (x: Value) => Value, x: Value, condition: Value, context: ForwardContext): Value {
    const of = (part: Linear) => unsqueeze(part.forward(condition, context), [1]);
    const scale = of(this.scale);
    const modulated = add(mul(x, add(scale, scalarLike(scale, 1))), of(this.shift));
    return mul(layer(modulated), of(this.gate));
  }
}
