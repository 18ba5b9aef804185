/**
 * A diffusion transformer (DiT, Peebles & Xie 2023) with adaLN-Zero, written as a user would: on the package's entries
 * alone.
 */
import * as z from 'zod';
import { add, mul, reshape, scalarLike, silu, split, transpose, unsqueeze, type Value } from '../../src/graph/index.ts';
import type { DiffusionModel, ModelInputs } from '../../src/index.ts';
import {
  Attention,
  Conv2d,
  Embedding,
  type ForwardContext,
  geluTanh,
  type Initializer,
  type Layer,
  LayerNorm,
  Linear,
  normal,
  type ParameterSpec,
  parametersOf,
  TimeEmbedding,
  zeros,
} from '../../src/nn/index.ts';

const schema = z.object({
  sample_size: z.int().default(8),
  in_channels: z.int().default(1),
  patch_size: z.int().default(2),
  hidden_size: z.int().default(32),
  num_layers: z.int().default(2),
  num_attention_heads: z.int().default(4),
  num_class_embeds: z.int().nullable().default(null),
  dropout: z.number().default(0),
  /** Zero is DiT's; anything else lets a gradient reach every parameter from the first step on. */
  modulation_std: z.number().default(0),
});

/** x (1 + scale) + shift, for every token alike. */
function modulate(x: Value, shift: Value, scale: Value): Value {
  const factor = add(unsqueeze(scale, [1]), scalarLike(scale, 1));
  return add(mul(x, factor), unsqueeze(shift, [1]));
}

class Block implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly norm1: LayerNorm;
  private readonly attention: Attention;
  private readonly norm2: LayerNorm;
  private readonly up: Linear;
  private readonly down: Linear;
  private readonly modulation: Linear;

  constructor(
    name: string,
    private readonly size: number,
    heads: number,
    private readonly dropout: number,
    weight_init: Initializer,
  ) {
    const bare = { eps: 1e-6, elementwise_affine: false };
    this.norm1 = new LayerNorm(`${name}.norm1`, size, bare);
    this.attention = new Attention(`${name}.attn`, size, heads);
    this.norm2 = new LayerNorm(`${name}.norm2`, size, bare);
    this.up = new Linear(`${name}.mlp.fc1`, size, 4 * size);
    this.down = new Linear(`${name}.mlp.fc2`, 4 * size, size);
    this.modulation = new Linear(`${name}.adaLN`, size, 6 * size, { weight_init, bias_init: zeros });
    this.parameters = parametersOf([this.attention, this.up, this.down, this.modulation]);
  }

  /** @param condition [batch or 1, size]. */
  forward(x: Value, condition: Value, context: ForwardContext): Value {
    const parts = split(this.modulation.forward(condition, context), Array<number>(6).fill(this.size), 1);
    const [shift1, scale1, gate1, shift2, scale2, gate2] = parts as [Value, Value, Value, Value, Value, Value];
    const attended = this.attention.forward(modulate(this.norm1.forward(x, context), shift1, scale1), context);
    const hidden = add(x, mul(unsqueeze(gate1, [1]), attended));
    const inner = geluTanh(this.up.forward(modulate(this.norm2.forward(hidden, context), shift2, scale2), context));
    const mixed = context.dropout(this.down.forward(inner, context), this.dropout);
    return add(hidden, mul(unsqueeze(gate2, [1]), mixed));
  }
}

export class TinyDiT implements DiffusionModel {
  readonly config;
  readonly sampleShape: readonly number[];
  readonly classCount: number | undefined;
  readonly parameters: readonly ParameterSpec[];
  private readonly patches: Conv2d;
  private readonly time: TimeEmbedding;
  private readonly classes: Embedding | undefined;
  private readonly blocks: readonly Block[];
  private readonly norm: LayerNorm;
  private readonly modulation: Linear;
  private readonly head: Linear;

  constructor(options: z.input<typeof schema> = {}) {
    const config = { _class_name: 'TinyDiT' as const, ...schema.parse(options) };
    this.config = config;
    const { sample_size, in_channels, patch_size, hidden_size, num_class_embeds } = config;
    this.sampleShape = [in_channels, sample_size, sample_size];
    this.classCount = num_class_embeds ?? undefined;
    const weight_init = config.modulation_std === 0 ? zeros : normal(config.modulation_std);
    this.patches = new Conv2d('patch_embed', in_channels, hidden_size, patch_size, {
      strides: [patch_size, patch_size],
    });
    this.time = new TimeEmbedding('time_embedding', { in_channels: 32, time_embed_dim: hidden_size });
    this.classes =
      num_class_embeds === null ? undefined : new Embedding('class_embedding', num_class_embeds, hidden_size);
    this.blocks = Array.from(
      { length: config.num_layers },
      (_, i) => new Block(`blocks.${i}`, hidden_size, config.num_attention_heads, config.dropout, weight_init),
    );
    this.norm = new LayerNorm('norm_out', hidden_size, { eps: 1e-6, elementwise_affine: false });
    this.modulation = new Linear('adaLN_out', hidden_size, 2 * hidden_size, {
      weight_init,
      bias_init: zeros,
    });
    this.head = new Linear('head', hidden_size, patch_size ** 2 * in_channels, {
      weight_init,
      bias_init: zeros,
    });
    this.parameters = [
      ...parametersOf([this.patches, this.time, this.classes]),
      { name: 'pos_embed', shape: [1, this.side ** 2, hidden_size], init: normal(0.02) },
      ...parametersOf([...this.blocks, this.modulation, this.head]),
    ];
  }

  static fromConfig(json: unknown): TinyDiT {
    return new TinyDiT(schema.parse(json));
  }

  forward({ sample, timestep, class_labels }: ModelInputs, context: ForwardContext): Value {
    const { hidden_size } = this.config;
    const { layout } = context;
    const embedded = layout.toImages(this.patches.forward(layout.fromImages(sample), context));
    const sequence = transpose(reshape(embedded, [0, hidden_size, this.side ** 2]), [0, 2, 1]);
    const time = this.time.forward(timestep, context);
    const label = class_labels && this.classes?.forward(class_labels, context);
    const condition = silu(label ? add(time, label) : time);
    let hidden = add(sequence, context.parameter('pos_embed'));
    for (const block of this.blocks) hidden = context.checkpoint((x) => block.forward(x, condition, context), [hidden]);
    const parts = split(this.modulation.forward(condition, context), [hidden_size, hidden_size], 1);
    const [shift, scale] = parts as [Value, Value];
    const modulated = modulate(this.norm.forward(hidden, context), shift, scale);
    return this.unpatchify(this.head.forward(modulated, context));
  }

  /** Patches in a row. */
  private get side(): number {
    return this.config.sample_size / this.config.patch_size;
  }

  /** [batch, tokens, patch^2 channels] to [batch, channels, height, width]. */
  private unpatchify(tokens: Value): Value {
    const { patch_size, in_channels, sample_size } = this.config;
    const grid = reshape(tokens, [0, this.side, this.side, patch_size, patch_size, in_channels]);
    return reshape(transpose(grid, [0, 5, 1, 3, 2, 4]), [0, in_channels, sample_size, sample_size]);
  }
}
