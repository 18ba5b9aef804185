import type { Value } from '../../graph/graph.ts';
import type { DType } from '../../graph/types.ts';
import type { LossResult } from '../../losses/index.ts';
import type { ForwardContext } from '../../nn/context.ts';
import type { ParameterSpec } from '../../nn/parameters.ts';

/** What one sample brings to an input of the graph. */
export interface SampleType {
  readonly dtype: Extract<DType, 'float32' | 'int32'>;
  /** Without the axis of the batch. */
  readonly shape: readonly number[];
}

/** The inputs of a batch in a graph, by the names of its parts, and what was computed from them. */
export type BatchValues = Readonly<Record<string, Value | undefined>>;

/** What a forward pass takes beside the batch and the parameters. */
export interface Pass {
  /** The type in which the network computes; the loss is float32. */
  readonly computeDtype: 'float32' | 'float16';
  /** The scalars of the loss that are inputs of the graph, by name, float32 []. */
  readonly scalars: Readonly<Record<string, Value>>;
  /** See `LossInputs.overStep`. */
  readonly overStep: ((name: string, mean: Value) => Value) | undefined;
}

/**
 * What is minimised over a batch. The engine, its backends, checkpoints and logs know nothing else of what is trained.
 *
 * An implementation may name the parts of its batch in the types of its methods: it is given the `inputs` it asks for.
 */
export interface Objective<Prepared extends BatchValues = BatchValues> {
  /** The class of what is trained, for errors. */
  readonly className: string;
  /** The name of the loss, for errors. */
  readonly lossName: string;
  /** In the order of the state dict. */
  readonly parameters: readonly ParameterSpec[];
  /** The parts of a batch that the graph takes, by name; an undefined one is not taken. */
  readonly inputs: Readonly<Record<string, SampleType | undefined>>;
  /**
   * What is computed from the inputs without the network, for each sample by itself: the parts that `loss` is given. A
   * Loop does it once for all of its steps.
   *
   * @param inputs [steps, samples, ...].
   */
  prepare(inputs: BatchValues): Prepared;
  /**
   * The forward pass of a batch and its loss.
   *
   * @param batch what `prepare` gave, [samples, ...].
   */
  loss(batch: Prepared, context: ForwardContext, pass: Pass): LossResult;
}
