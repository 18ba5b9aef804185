import { gradients } from '../../graph/autodiff/gradients.ts';
import { Graph, type GraphTarget, type Value } from '../../graph/graph.ts';
import type { DropoutNumbers } from '../../graph/ops/dropout.ts';
import { add, cast, mul, stopGradient, sub } from '../../graph/ops/elementwise.ts';
import { concat, reshape } from '../../graph/ops/shape.ts';
import type { LossResult } from '../../losses/index.ts';
import { ForwardContext } from '../../nn/context.ts';
import type { Layout } from '../../nn/layout.ts';
import type { ParameterSpec, ParameterValues } from '../../nn/parameters.ts';
import { refuseUnusableTerms } from '../checks.ts';
import { type DropoutInput, lossScalarName, mapBatch, stepMeanName } from './batch.ts';
import { SCALER_REPORT } from './loss-scaler.ts';
import type { BatchValues, Objective } from './objective.ts';
import type { StepSettings } from './settings.ts';

// The forward half of a training step as a graph: the inputs, the loss of the objective and its terms.

/** Declares the inputs of `steps` batches, [steps, batchSize, ...], and prepares them. */
export function declareBatches<Prepared extends BatchValues>(
  graph: Graph,
  { objective }: { readonly objective: Objective<Prepared> },
  [steps, batchSize]: readonly [steps: number | string, batchSize: number],
): Prepared {
  return objective.prepare(
    mapBatch(objective.inputs, ({ dtype, shape }, name) => graph.input(name, dtype, [steps, batchSize, ...shape])),
  );
}

/** What the forward pass and the loss of a batch take beside the batch. */
export interface StepInputs {
  readonly dropoutNumbers: DropoutNumbers;
  /** By name, float32 []. */
  readonly lossScalars: Readonly<Record<string, Value>>;
  /** The mean of that name over all batches of the step, float32 []; default: each batch has its own. */
  readonly stepMean?: ((name: string) => Value) | undefined;
  /** What the loss is multiplied by for the gradients, float32 []; default: nothing. */
  readonly lossScale?: Value | undefined;
}

/**
 * The one batch of inputs whose first axis is 1, its dropouts, and the scalars of the loss.
 *
 * @param pass 'means' is the pass that finds the means over the batches, which the other one takes as inputs.
 */
export function declareBatch(
  graph: Graph,
  settings: StepSettings,
  pass: 'gradients' | 'means' = 'gradients',
): { readonly batch: BatchValues; readonly inputs: StepInputs; readonly dropouts: readonly DropoutInput[] } {
  const batch = declareBatches(graph, settings, [1, settings.batchSize]);
  const lossScalars = mapBatch(declareLossScalars(graph, settings, 1), onlyStep);
  const dropouts = new DropoutInputs(graph, 1, onlyStep);
  const stepMean =
    pass === 'means' ? undefined : (name: string) => onlyStep(graph.input(stepMeanName(name), 'float32', [1]));
  const inputs = { dropoutNumbers: dropouts.numbers, lossScalars, stepMean };
  return { batch: mapBatch(batch, onlyStep), inputs, dropouts: dropouts.all };
}

/** Declares the scalars of the loss that are inputs, by name, float32 [steps]. */
export function declareLossScalars(
  graph: Graph,
  { lossScalars }: StepSettings,
  steps: number | string,
): Readonly<Record<string, Value>> {
  return Object.fromEntries(lossScalars.map((name) => [name, graph.input(lossScalarName(name), 'float32', [steps])]));
}

/** A value of one step, [1, ...], without the axis of steps. */
export function onlyStep(value: Value): Value {
  return reshape(value, value.shape.slice(1).map(Number));
}

/** Declares the inputs `dropout.0`, `dropout.1`, ... of a graph, in the order in which the model asks for them. */
export class DropoutInputs {
  readonly all: DropoutInput[] = [];
  private readonly values: Value[] = [];
  private next = 0;

  /** @param ofStep picks the step at hand from an input, ['steps', samples, length]. */
  constructor(
    private readonly graph: Graph,
    private readonly steps: number | string,
    private readonly ofStep: (input: Value) => Value,
  ) {}

  /** The numbers of the next dropout: [samples, length]. */
  readonly numbers: DropoutNumbers = (samples, length) => {
    const index = this.next++;
    const name = `dropout.${index}`;
    const input = this.values[index] ?? this.graph.input(name, 'float32', [this.steps, samples, length]);
    if (index === this.values.length) {
      this.values.push(input);
      this.all.push({ name, samples, length });
    }
    return this.ofStep(input);
  };

  /** Another forward pass of the same batches asks from the first dropout on. */
  again(): void {
    this.next = 0;
  }
}

/** The loss of a batch and its terms as a vector, float32 [n], with their names. */
export interface StackedTerms {
  readonly names: readonly string[];
  readonly values: Value;
}

/** The loss of a batch in a graph. */
interface BatchLoss {
  readonly loss: Value;
  readonly terms: StackedTerms;
  /** The means over the batch that the loss wants over all batches of the step, by name. */
  readonly means: ReadonlyMap<string, Value>;
}

/**
 * The loss of a batch: the forward pass as it is in training, and the loss of its output, which is float32.
 *
 * @param parameters of type `computeDtype`. One that training leaves as it is stays float32: it may be a frequency, of which
 * float16 has too few digits.
 * @param layout the memory order of feature maps; default `nchw`.
 * @throws {GraphError | InvalidArgumentError} when the loss has a term that cannot be reported.
 */
export function batchLoss(
  { objective, gradientCheckpointing, overStep, computeDtype }: StepSettings,
  batch: BatchValues,
  { dropoutNumbers, lossScalars, stepMean }: StepInputs,
  parameters: ParameterValues,
  layout?: Layout,
): BatchLoss {
  const context = new ForwardContext(parameters, {
    modelName: objective.className,
    layout,
    dropoutNumbers,
    checkpoints: gradientCheckpointing ? 'recomputed' : 'kept',
  });
  const means = new Map<string, Value>();
  const result = objective.loss(batch, context, {
    computeDtype,
    scalars: lossScalars,
    overStep: overStep
      ? (name, mean) => {
          means.set(name, mean);
          const whole = stepMean?.(name);
          // The value of the whole step, with the gradient of this batch.
          return whole ? add(mean, stopGradient(sub(whole, mean))) : mean;
        }
      : undefined,
  });
  refuseUnusableTerms(objective.lossName, result);
  return { loss: result.loss, terms: stackTerms(result), means };
}

/** The gradients of the loss, times the scale of the loss where there is one. */
export function scaledGradients(loss: Value, lossScale: Value | undefined, wrt: readonly Value[]): Value[] {
  return gradients(lossScale ? mul(loss, lossScale) : loss, wrt);
}

/** The means as a vector, float32 [n], in their order. */
export function stackMeans(means: ReadonlyMap<string, Value>): Value {
  return concat(
    [...means.values()].map((mean) => reshape(mean, [1])),
    0,
  );
}

function stackTerms({ loss, terms }: LossResult): StackedTerms {
  const all = { loss, ...terms };
  const rows = Object.values(all).map((scalar) => reshape(scalar, [1]));
  return { names: Object.keys(all), values: concat(rows, 0) };
}

/** What a step reports: `loss`, the terms of the loss, and `grad_norm`, the norm of the gradient before clipping. */
export type StepReport = Readonly<Record<string, number>>;

/** The names of a step's report, in order: the update puts the norm of the gradient after the terms. */
export function reportedNames(
  { computeDtype }: Pick<StepSettings, 'computeDtype'>,
  { names }: Pick<StackedTerms, 'names'>,
): string[] {
  return [...names, 'grad_norm', ...(computeDtype === 'float16' ? SCALER_REPORT : [])];
}

/** The report of a row of numbers. */
export function reportOf(names: readonly string[], row: Float32Array): StepReport {
  return Object.fromEntries(names.map((name, index) => [name, row[index] ?? Number.NaN]));
}

/** A batch's forward pass and loss, without gradients. */
interface LossGraph {
  readonly graph: Graph;
  /** The inputs of the parameters, in the model's order. */
  readonly parameters: ReadonlyMap<string, Value>;
  readonly loss: Value;
  readonly terms: StackedTerms;
  readonly means: ReadonlyMap<string, Value>;
  readonly dropouts: readonly DropoutInput[];
}

/**
 * Inputs: every parameter under its name, filters in the order of `layout`; the inputs of the objective, [1, batch, ...];
 * for a model with dropout the `dropouts`; the scalars of the loss that are inputs, float32 [1]; but for the pass of the
 * means, the means over the step that the loss asks for, float32 [1].
 */
export function buildLossGraph(
  settings: StepSettings,
  layout: Layout,
  pass: 'gradients' | 'means' = 'gradients',
  target: GraphTarget = 'any',
): LossGraph {
  const graph = new Graph('gradients', undefined, target);
  const specs = settings.objective.parameters;
  const parameters = new Map(
    specs.map((spec) => [spec.name, graph.input(spec.name, 'float32', shapeIn(layout, spec))] as const),
  );
  const { batch, inputs, dropouts } = declareBatch(graph, settings, pass);
  const values = new Map(
    specs.map((spec) => {
      const parameter = parameters.get(spec.name) as Value;
      return [spec.name, spec.isFrozen ? parameter : cast(parameter, settings.computeDtype)];
    }),
  );
  const { loss, terms, means } = batchLoss(settings, batch, inputs, values, layout);
  return { graph, parameters, loss, terms, means, dropouts };
}

/**
 * Forward and backward pass of one batch, for models so large that parameters and gradients should exist once.
 *
 * Inputs: those of `buildLossGraph`, and in float16 `LOSS_SCALE`, float32 []. Outputs: `d/<parameter>` for every parameter,
 * and `terms`, float32 [n].
 */
export function buildGradientGraph(settings: StepSettings, layout: Layout, target: GraphTarget = 'any'): LossGraph {
  const built = buildLossGraph(settings, layout, 'gradients', target);
  const { graph, parameters, loss, terms } = built;
  const lossScale = settings.computeDtype === 'float16' ? graph.input(LOSS_SCALE, 'float32', []) : undefined;
  const found = scaledGradients(loss, lossScale, [...parameters.values()]);
  [...parameters.keys()].forEach((name, index) => {
    const gradient = found[index];
    if (gradient) graph.output(gradientName(name), gradient);
  });
  graph.output('terms', terms.values);
  return built;
}

/** The input that the loss is multiplied by. A parameter cannot have the name by chance. */
export const LOSS_SCALE = 'loss_scaler/scale';

/** The output that holds dL/d(parameter). */
export const gradientName = (parameter: string) => `d/${parameter}`;

/** The shape of a parameter in a layout. */
export function shapeIn(layout: Layout, { shape, isFilter }: ParameterSpec): readonly number[] {
  return isFilter ? layout.filterAxes.map((axis) => shape[axis] ?? 1) : shape;
}
