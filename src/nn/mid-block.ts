import type { Value } from '../graph/graph.ts';
import { PixelAttention, type PixelAttentionOptions } from './attention.ts';
import type { ForwardContext } from './context.ts';
import { type Layer, type ParameterSpec, parametersOf } from './parameters.ts';
import { ResnetBlock, type ResnetBlockOptions } from './resnet-block.ts';

/** diffusers' `UNetMidBlock2D`: a residual block, self-attention over the pixels where asked for, and a residual block. */
export class MidBlock implements Layer {
  readonly parameters: readonly ParameterSpec[];
  private readonly first: ResnetBlock;
  private readonly attention: PixelAttention | undefined;
  private readonly second: ResnetBlock;

  constructor(name: string, resnet: ResnetBlockOptions, attention: PixelAttentionOptions | undefined) {
    this.first = new ResnetBlock(`${name}.resnets.0`, resnet);
    this.attention = attention && new PixelAttention(`${name}.attentions.0`, attention);
    this.second = new ResnetBlock(`${name}.resnets.1`, resnet);
    this.parameters = parametersOf([this.attention, this.first, this.second]);
  }

  /** @param condition see `ResnetBlock.forward`. */
  forward(x: Value, condition: Value | undefined, context: ForwardContext): Value {
    const { attention } = this;
    let hidden = context.checkpoint((part) => this.first.forward(part, condition, context), [x]);
    if (attention) hidden = context.checkpoint((part) => attention.forward(part, context, condition), [hidden]);
    return context.checkpoint((part) => this.second.forward(part, condition, context), [hidden]);
  }
}
