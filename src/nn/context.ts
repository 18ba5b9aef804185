import { GraphError } from '../errors.ts';
import { checkpoint } from '../graph/autodiff/checkpoint.ts';
import type { Value } from '../graph/graph.ts';
import { type DropoutNumbers, dropoutMask } from '../graph/ops/dropout.ts';
import { mul } from '../graph/ops/elementwise.ts';
import { fixedShape } from '../graph/types.ts';
import { type Layout, nchw } from './layout.ts';
import type { ParameterValues } from './parameters.ts';

/** What a forward pass is for: training or use, and in which layout. */
export interface ForwardContextOptions {
  /** The class of the model, for errors. Default `the model`. */
  readonly modelName?: string | undefined;
  /** The memory order of feature maps; filters among the parameters have the order of its `filterAxes`. Default `nchw`. */
  readonly layout?: Layout | undefined;
  /** Where dropout's random integers come from. Default: none, and dropout is the identity, as in a model that is used. */
  readonly dropoutNumbers?: DropoutNumbers | undefined;
  /**
   * What the backward pass does with the values inside a `checkpoint`: `recomputed` computes them again, which saves
   * memory; `kept` gives the same gradients bit for bit. Default: checkpoints only call their function, for a forward
   * pass without gradients.
   */
  readonly checkpoints?: 'kept' | 'recomputed' | undefined;
}

/**
 * What one forward pass is built from: the values of the parameters, the layout of feature maps, and what training adds,
 * dropout and gradient checkpoints. Whoever calls a model makes one for each call; the model hands it to its layers.
 *
 * @example
 * const context = new ForwardContext(parameters, { modelName: 'UNet2DModel' });
 * const output = model.forward({ sample, timestep }, context);
 */
export class ForwardContext {
  /** The memory order of feature maps. */
  readonly layout: Layout;
  private readonly modelName: string;
  private readonly checkpoints: ForwardContextOptions['checkpoints'];
  private dropoutNumbers: DropoutNumbers | undefined;

  constructor(
    private readonly values: Pick<ParameterValues, 'get'>,
    { modelName = 'the model', layout = nchw, dropoutNumbers, checkpoints }: ForwardContextOptions = {},
  ) {
    this.modelName = modelName;
    this.layout = layout;
    this.dropoutNumbers = dropoutNumbers;
    this.checkpoints = checkpoints;
  }

  /** The value of a parameter. @throws {GraphError} when it is missing. */
  parameter(name: string): Value {
    const value = this.values.get(name);
    if (value) return value;
    throw new GraphError(
      `${this.modelName}: parameter '${name}' is missing: list it in model.parameters, and pass a value for each of them`,
    );
  }

  /**
   * torch's nn.Dropout: in training, sets each element to 0 with the given probability, in [0, 1), and scales the others
   * so that the expected value stays. In a model that is used, the identity.
   *
   * @param x feature maps in the order of `layout`, which have 4 axes; or a tensor whose first axis is the batch.
   */
  dropout(x: Value, probability: number): Value {
    const { dropoutNumbers, layout } = this;
    if (!dropoutNumbers || probability === 0) return x;
    const shape = fixedShape(x.shape);
    if (shape.length !== 4) return mul(x, dropoutMask(x, shape, probability, dropoutNumbers));
    // In every layout the same elements are dropped.
    const images = layout.imageAxes.map((axis) => shape[axis] ?? 1);
    return mul(x, layout.fromImages(dropoutMask(x, images, probability, dropoutNumbers)));
  }

  /**
   * Gradient checkpointing (Chen et al. 2016): in training, what `build` computes from `inputs` on the way to its result
   * may be computed again in the backward pass instead of being kept.
   *
   * @param build adds the same nodes at every call. It may use parameters; nothing outside may use its intermediate
   * values.
   * @param inputs the values that `build` is called with, which are kept.
   * @example
   * const hidden = context.checkpoint((x) => block.forward(x, context), [x]);
   */
  checkpoint(build: (...inputs: Value[]) => Value, inputs: readonly [Value, ...Value[]]): Value {
    if (!this.checkpoints) return build(...inputs);
    return checkpoint(this.withSameDropout(build), inputs, { recompute: this.checkpoints === 'recomputed' });
  }

  /** `build`, whose dropouts draw at the first call and get the same numbers at the next ones. */
  private withSameDropout(build: (...inputs: Value[]) => Value): (...inputs: Value[]) => Value {
    const drawn: Value[] = [];
    let calls = 0;
    return (...inputs) => {
      const source = this.dropoutNumbers;
      if (!source) return build(...inputs);
      const replayed = calls++ === 0 ? undefined : drawn.values();
      this.dropoutNumbers = (samples, length) => {
        const known = replayed?.next().value;
        if (known) return known;
        const numbers = source(samples, length);
        drawn.push(numbers);
        return numbers;
      };
      try {
        return build(...inputs);
      } finally {
        this.dropoutNumbers = source;
      }
    };
  }
}
