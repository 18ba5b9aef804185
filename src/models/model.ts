import { requireArray, requireFunction, requireObject } from '../arguments.ts';
import { ConfigError, InvalidArgumentError, type IsoDiffusionError } from '../errors.ts';
import { float32Tensor } from '../files/float-tensors.ts';
import { Graph, type GraphTarget, type Value } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { cast } from '../graph/ops/index.ts';
import { elementCount, formatShape } from '../graph/types.ts';
import { ForwardContext } from '../nn/context.ts';
import type { ParameterSpec } from '../nn/parameters.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';

/** A model's JSON configuration, as it is saved in `config.json`: snake_case keys, `_class_name` names the class. */
export interface ModelConfig {
  /** The class, by its name in `models`. */
  readonly _class_name: string;
}

/**
 * The options in the parsed `config.json` of a class: its keys but those that begin with `_`, which are notes of the
 * writing library. For `fromConfig`.
 *
 * @throws {ConfigError} when it is not an object, or `_class_name` is another class.
 * @example
 * static fromConfig(json: unknown) { return new TinyDiT(configOptions(json, 'TinyDiT')); }
 */
export function configOptions(json: unknown, className: string): Record<string, unknown> {
  const shown = (value: unknown) =>
    value === undefined ? 'missing' : (JSON.stringify(value) ?? typeof value).slice(0, 80);
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError(`the config of a ${className} must be a JSON object, not ${shown(json)}`);
  const found = '_class_name' in json ? json._class_name : undefined;
  if (found !== className)
    throw new ConfigError(
      `expected a config with "_class_name": ${JSON.stringify(className)}, but it is ${shown(found)}`,
    );
  return Object.fromEntries(Object.entries(json).filter(([key]) => !key.startsWith('_')));
}

/** Side, or height and width, of an image in pixels. */
export type SampleSize = number | readonly [height: number, width: number];

/** What a model is called with: values of one graph. */
export interface ModelInputs {
  /** [batch, ...sampleShape], float32, float64 or float16, as all parameters. */
  readonly sample: Value;
  /** [batch] or [1], int64 or int32, counted from 0; float32 where the model `takesFractionalTimesteps`. */
  readonly timestep: Value;
  /**
   * [batch] or [1], int64 or int32, for a model with `classCount`; for one with `classLabelShape` [batch or 1,
   * ...classLabelShape], float32, and where they are numbers int64 or int32 too. Default none.
   */
  readonly class_labels?: Value | undefined;
  /** [batch, conditionChannels, height, width], of the type of the sample, for a model with `conditionChannels`; default none. */
  readonly condition?: Value | undefined;
}

/** A network that predicts noise, velocity or the clean sample from a noisy sample and its timestep. */
export interface DiffusionModel {
  /** What `config.json` holds: `_class_name` and the options. */
  readonly config: ModelConfig;
  /**
   * The Python library that has a class of this name with the same config and state dict; it is written to
   * `model_index.json`. Default `iso_diffusion`, which is this package.
   */
  readonly library?: string | undefined;
  /** In the order of the state dict; a parameter's index is also the index of its initial random stream. */
  readonly parameters: readonly ParameterSpec[];
  /** Shape of one sample without the batch axis, e.g. [2] or [3, 32, 32]. */
  readonly sampleShape: readonly number[];
  /** Channels of the output; twice those of the sample where the model learns its variance. Default: the sample's. */
  readonly outputChannels?: number | undefined;
  /**
   * The model for samples of another height and width; its parameters are the same. Where the config leaves the size open,
   * `sampleShape` throws until it is known. Default: the model has one size.
   */
  withSampleSize?(size: SampleSize): DiffusionModel;
  /**
   * Whether `forward` also takes timesteps of float32, as schedulers with fractional ones have them. Default false: a
   * pipeline then asks the model at the whole timesteps below and above, and interpolates.
   */
  readonly takesFractionalTimesteps?: boolean | undefined;
  /** The least and the greatest timestep that the model can encode. Default: every one from 0. */
  readonly timestepRange?: readonly [least: number, greatest: number] | undefined;
  /**
   * Whether `forward` can be given a sample and parameters in float16, and then computes in it; parameters that are frozen
   * stay float32. Default true: ops and layers follow the type of what they are given.
   */
  readonly computesInFloat16?: boolean | undefined;
  /** Number of classes of a model whose class labels are numbers from 0. Default: the model takes no such labels. */
  readonly classCount?: number | undefined;
  /**
   * Shape of a class label of a model whose labels are float32: [] for numbers, [length] for vectors. Default: the model takes
   * no such labels.
   */
  readonly classLabelShape?: readonly number[] | undefined;
  /** Channels of an image of the sample's size that the model is given beside it, in [-1, 1]. Default: it takes none. */
  readonly conditionChannels?: number | undefined;
  /**
   * Adds the forward pass to the graph of `inputs.sample`.
   *
   * An implementation must broadcast its time embedding over the batch and must not write the length of the time
   * axis into the graph (as Reshape and Expand to a fixed shape do): an exported graph may be run with 1 or
   * `batch_size` timesteps.
   *
   * @param context the values of the parameters, the layout of feature maps, dropout and checkpoints.
   * @returns the model output, [batch, ...sampleShape], or with `outputChannels` in place of the first axis.
   */
  forward(inputs: ModelInputs, context: ForwardContext): Value;
  /**
   * The model with `weights` as an ONNX file, where it has a better way than `exportModelGraph`: one that was read from
   * an ONNX file keeps all of it but the weights.
   */
  toOnnx?(weights: ReadonlyMap<string, Float32Array>): Uint8Array;
}

/** Whether the second half of the model's output channels is a variance. */
export function learnsVariance({ outputChannels, sampleShape }: DiffusionModel): boolean {
  return outputChannels !== undefined && outputChannels === 2 * (sampleShape[0] ?? 0);
}

/** Shape of the image that a model is given beside a sample; undefined where it takes none. */
export function conditionShape({ conditionChannels, sampleShape }: DiffusionModel): readonly number[] | undefined {
  return conditionChannels === undefined ? undefined : [conditionChannels, ...sampleShape.slice(1)];
}

/** Whether a model takes class labels of any kind. */
export function takesClassLabels({ classCount, classLabelShape }: DiffusionModel): boolean {
  return classCount !== undefined || classLabelShape !== undefined;
}

/** Initial values of every parameter; parameter `i` has a random stream of its own: (seed, STREAM.init, i). */
export function initialParameters(model: Pick<DiffusionModel, 'parameters'>, seed: number): Map<string, Float32Array> {
  requireObject('the model', model);
  requireArray('the parameters of the model', model.parameters);
  return namedViews(model.parameters, initialVector(model, seed));
}

/** {@link initialParameters} in one vector, one after another in the order of the state dict. */
export function initialVector(
  { parameters }: Pick<DiffusionModel, 'parameters'>,
  seed: number,
): Float32Array<ArrayBuffer> {
  const vector = new Float32Array(parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0));
  const views = namedViews(parameters, vector);
  parameters.forEach(({ name, init }, index) => {
    init(new RandomStream(seed, STREAM.init, index), views.get(name) ?? vector);
  });
  return vector;
}

/**
 * The parameters by name, as views of one vector that holds them one after another in the order of the state dict.
 *
 * @throws {InvalidArgumentError} when two parameters have one name, or the vector has another length than all together.
 */
export function namedViews(
  parameters: readonly Pick<ParameterSpec, 'name' | 'shape'>[],
  vector: Float32Array,
): Map<string, Float32Array> {
  let offset = 0;
  const views = new Map(
    parameters.map(({ name, shape }) => {
      const start = offset;
      offset += elementCount(shape);
      return [name, vector.subarray(start, offset)];
    }),
  );
  if (views.size < parameters.length) {
    const twice = parameters.find(({ name }, i) => parameters.findIndex((spec) => spec.name === name) < i);
    throw new InvalidArgumentError(`two parameters are called '${twice?.name}': give each layer its own name`);
  }
  if (offset === vector.length) return views;
  throw new InvalidArgumentError(
    `the parameters have ${offset} elements together, but the vector has ${vector.length}`,
  );
}

/**
 * The model with `weights` as the initial values of its parameters: what a trainer of it fine-tunes.
 *
 * @param weights every parameter by name, row-major.
 * @throws {InvalidArgumentError} when `weights` lacks a parameter, has an unknown one, or one of a wrong size.
 * @example
 * const model = withInitialWeights(new ConditionalDense(), trainer.weights());
 */
export function withInitialWeights<Model extends Pick<DiffusionModel, 'config' | 'parameters'>>(
  model: Model,
  weights: ReadonlyMap<string, Float32Array>,
): Model {
  const parameters = parametersFrom(model, weights);
  return Object.create(model, { parameters: { value: parameters, enumerable: true } });
}

/**
 * The parameters of a model with `weights` as their initial values.
 *
 * @param Failure what is thrown when `weights` lacks a parameter, has an unknown one, or one of a wrong size; default
 * `InvalidArgumentError`.
 */
export function parametersFrom(
  model: Pick<DiffusionModel, 'config' | 'parameters'>,
  weights: ReadonlyMap<string, Float32Array>,
  Failure: WeightsFailure = InvalidArgumentError,
): ParameterSpec[] {
  requireWeights(model, weights, Failure);
  return model.parameters.map((spec) => ({
    ...spec,
    init: (_stream, target) => target.set(weights.get(spec.name) ?? []),
  }));
}

/** The type in which an exported model computes; its inputs and outputs are float32 in any case. */
type ComputeDtype = 'float32' | 'float16';
/** The type of its timesteps. */
export type TimestepType = 'int64' | 'float32';

/**
 * The forward pass with `weights` put in, ready to be written as ONNX.
 *
 * Inputs: `sample` float32 ['batch_size', ...sampleShape] and `timestep` int64 ['timestep_count'], where the number of
 * timesteps is 1 (one for the whole batch, the cheap way) or `batch_size`; for a class-conditional model also
 * `class_labels` int64 ['label_count'], likewise, or float32 ['label_count', ...classLabelShape]; for a model with a condition
 * `condition` float32 ['batch_size', ...]. Output: `out_sample`, as `sample`.
 * The parameters are constants named as in the state dict.
 *
 * @param timestepType 'float32' for a model that `takesFractionalTimesteps`; default 'int64'.
 * @param dtype 'float16' makes a file of half the size, whose parameters are float16 but for those that are frozen. It
 * computes in float16 with statistics of norms in float32. Default 'float32'.
 * @param target where the graph is going to run; default `any`, the form of files.
 * @throws {InvalidArgumentError} when `weights` lacks a parameter, has an unknown one, or one of a wrong size; for
 * 'float16' also when a weight is beyond it, or the model does not compute in it.
 * @example
 * const bytes = writeOnnx(exportModelGraph(model, initialParameters(model, 0)));
 */
export function exportModelGraph(
  model: DiffusionModel,
  weights: ReadonlyMap<string, Float32Array>,
  timestepType: TimestepType = 'int64',
  dtype: ComputeDtype = 'float32',
  target: GraphTarget = 'any',
): Graph {
  requireWeights(model, weights);
  if (dtype === 'float16') refuseFloat32Only(model, 'a model in float16');
  const graph = new Graph(model.config._class_name, undefined, target);
  return modelGraph(graph, model, (spec) => parameterConstant(graph, spec, weights, dtype), timestepType, dtype);
}

/** `exportModelGraph` in an empty graph, with the constants that `parameter` makes. */
export function modelGraph(
  graph: Graph,
  model: DiffusionModel,
  parameter: (spec: ParameterSpec) => Value,
  timestepType: TimestepType = 'int64',
  dtype: ComputeDtype = 'float32',
): Graph {
  const sample = graph.input('sample', 'float32', ['batch_size', ...model.sampleShape]);
  const timestep = graph.input('timestep', timestepType, ['timestep_count']);
  const parameters = new Map(model.parameters.map((spec) => [spec.name, parameter(spec)]));
  const { classLabelShape = [] } = model;
  const labelType = model.classCount === undefined ? 'float32' : 'int64';
  const class_labels = takesClassLabels(model)
    ? asOne(graph.input('class_labels', labelType, ['label_count', ...classLabelShape]))
    : undefined;
  const shape = conditionShape(model);
  const condition = shape && cast(graph.input('condition', 'float32', ['batch_size', ...shape]), dtype);
  const context = new ForwardContext(parameters, { modelName: model.config._class_name });
  const inputs = { sample: cast(sample, dtype), timestep: asOne(timestep), class_labels, condition };
  graph.output('out_sample', cast(model.forward(inputs, context), 'float32'));
  return graph;
}

function parameterConstant(
  graph: Graph,
  { name, shape, isFrozen }: ParameterSpec,
  weights: ReadonlyMap<string, Float32Array>,
  dtype: ComputeDtype,
): Value {
  const values = weights.get(name) ?? new Float32Array();
  if (dtype === 'float32' || isFrozen) return graph.constant('float32', shape, values, name);
  const { data } = float32Tensor(name, shape, values, 'fp16');
  return graph.constant('float16', shape, data as Uint16Array, name);
}

/** @throws {InvalidArgumentError} when the model computes in float32 only. @param what needs float16. */
export function refuseFloat32Only({ computesInFloat16 = true, config }: DiffusionModel, what: string): void {
  if (computesInFloat16) return;
  throw new InvalidArgumentError(
    `${what} is not possible with a ${config._class_name}, which computes in float32 only: leave it out`,
  );
}

/**
 * The model with `weights` put in as an ONNX file.
 *
 * @param dtype in which it computes, see `exportModelGraph`; default 'float32'.
 * @throws {InvalidArgumentError} as `exportModelGraph`.
 * @throws {GraphError} when the file would exceed protobuf's 2 GiB.
 */
export function exportModel(
  model: DiffusionModel,
  weights: ReadonlyMap<string, Float32Array>,
  dtype: ComputeDtype = 'float32',
): Uint8Array {
  requireWeights(model, weights);
  if (dtype === 'float16') return writeOnnx(exportModelGraph(model, weights, 'int64', dtype));
  return model.toOnnx?.(weights) ?? writeOnnx(exportModelGraph(model, weights));
}

/**
 * Static shapes cannot say "1 or batch_size", and only a length of 1 broadcasts to every batch size. So the model
 * sees one timestep, or label; the file declares no shape after this node, and at run time both lengths broadcast.
 */
function asOne(perSample: Value): Value {
  const { graph, dtype, shape } = perSample;
  const node = graph.addNode('Identity', [perSample], {}, [{ dtype, shape: [1, ...shape.slice(1)] }]);
  return node.outputs[0] ?? perSample;
}

type WeightsFailure = new (message: string) => IsoDiffusionError;

/**
 * Makes sure that `weights` are those of the model.
 *
 * @param Failure what is thrown; default `InvalidArgumentError`.
 * @throws {Failure} when `weights` lacks a parameter, has an unknown one, or one of a wrong size.
 */
export function requireWeights(
  model: Pick<DiffusionModel, 'config' | 'parameters'>,
  weights: ReadonlyMap<string, Float32Array>,
  Failure: WeightsFailure = InvalidArgumentError,
): void {
  requireObject('the model', model);
  const { config, parameters } = model;
  requireArray('the parameters of the model', parameters);
  requireObject('the weights', weights);
  requireFunction('the keys of the weights, a Map,', weights.keys);
  requireFunction('the get of the weights, a Map,', weights.get);
  const known = new Set(parameters.map(({ name }) => name));
  const unknown = [...weights.keys()].filter((name) => !known.has(name));
  if (unknown.length > 0)
    throw new Failure(
      `the weights hold ${unknown.length} tensors that ${config._class_name} does not have; the first is '${unknown[0]}'. Were they saved from a model of another config?`,
    );
  for (const { name, shape } of parameters) {
    const values = weights.get(name);
    if (values?.length === elementCount(shape)) continue;
    throw new Failure(
      `parameter '${name}' of ${config._class_name} needs ${elementCount(shape)} values of shape ${formatShape(shape)}, but the weights have ${values ? values.length : 'no such tensor'}`,
    );
  }
}
