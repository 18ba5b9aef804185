import { Graph, type Value } from '../../graph/graph.ts';
import { add, clip, mul, sub } from '../../graph/ops/elementwise.ts';
import { gather } from '../../graph/ops/indexing.ts';
import { loop } from '../../graph/ops/loop.ts';
import { reduceSum } from '../../graph/ops/reduce.ts';
import { fixedShape, type TensorType } from '../../graph/types.ts';
import type { TimeSplit } from './time-split.ts';

/** Which of the optional operations of `StepCoefficients` the steps have. */
export interface StepForm {
  readonly clip: number | null;
  readonly usesOutput: boolean;
  readonly usesNoise: boolean;
  /** Whether the model's output is scaled, and whether what it was given is added to it. */
  readonly scalesOutput: boolean;
  readonly addsInput: boolean;
  /** Whether the prediction without a class counts too (classifier-free guidance). */
  readonly isGuided: boolean;
}

/** The coefficients of a step that are scalars of the graph, one float32 vector [steps] each. */
const COEFFICIENTS = [
  'scaledFromOutput',
  'scaledFromInput',
  'originalFromSample',
  'originalFromOutput',
  'fromOriginal',
  'fromSample',
  'fromOutput',
  'fromNoise',
] as const;
export type Coefficient = (typeof COEFFICIENTS)[number];

/** The name under which crossing value `index` leaves the time graph and enters the denoising graph. */
export const timeValueName = (index: number) => `time_value_${index}`;

/**
 * The timestep's part of the model, for many timesteps: `timesteps` int64 [steps, 1] and `step_count` give each
 * crossing value, stacked as [steps, ...]. One timestep a trip, because a product of one row and the same row within
 * a batch of rows may round differently.
 *
 * @returns the graph and the type of each crossing value at one timestep.
 */
export function timeGraph(split: TimeSplit): { graph: Graph; types: TensorType[] } {
  const graph = new Graph('time_values');
  const timesteps = graph.input('timesteps', 'int64', ['steps', 1]);
  const stepCount = graph.input('step_count', 'int64', []);
  let types: TensorType[] = [];
  const { perTrip } = loop(stepCount, [], (body, trip) => {
    const values = split.addTimePart(body, gather(timesteps, trip));
    types = values.map(({ dtype, shape }) => ({ dtype, shape: fixedShape(shape) }));
    return { state: [], perTrip: values };
  });
  perTrip.forEach((value, index) => {
    graph.output(timeValueName(index), value);
  });
  return { graph, types };
}

/**
 * Many steps of the reverse process in one Loop, by the operations of `StepCoefficients` in their order. Inputs:
 * `sample` [batch_size, ...], `step_count`, the vectors of the scalars in use, the crossing values [steps, ...], `noise` [steps,
 * batch_size, ...] where the form has noise, and for a model with classes `class_labels` [batch_size]; where it is guided
 * `no_class`, as many, and `guidance_scale`, float32 []. Outputs: `previous_sample`, and `finite` [steps], which is 0
 * where the model's output and the sample are finite, else NaN.
 */
export function denoisingGraph(
  split: TimeSplit,
  timeTypes: readonly TensorType[],
  sampleShape: readonly number[],
  form: StepForm,
): Graph {
  const graph = new Graph('denoising');
  const start = graph.input('sample', 'float32', ['batch_size', ...sampleShape]);
  const stepCount = graph.input('step_count', 'int64', []);
  const scalars = new Map(scalarsOf(form).map((name) => [name, graph.input(name, 'float32', ['steps'])] as const));
  const timeValues = timeTypes.map(({ dtype, shape }, index) =>
    graph.input(timeValueName(index), dtype, ['steps', ...shape]),
  );
  const noise = form.usesNoise ? graph.input('noise', 'float32', ['steps', 'batch_size', ...sampleShape]) : undefined;

  const inputOfClasses = (name: string) =>
    split.classLabels && graph.input(name, split.classLabels.dtype, ['batch_size']);
  const labels = inputOfClasses('class_labels');
  const noClass = form.isGuided ? inputOfClasses('no_class') : undefined;
  const guidanceScale = noClass && graph.input('guidance_scale', 'float32', []);

  const { state, perTrip } = loop(stepCount, [start], (body, trip, carried) => {
    const [sample = start] = carried;
    const times = (value: Value, name: Coefficient) => {
      const scalar = scalars.get(name);
      return scalar ? mul(value, gather(scalar, trip)) : value;
    };
    const atTime = timeValues.map((values) => gather(values, trip));
    const ofClass = split.addSamplePart(body, sample, atTime, labels);
    const unscaled =
      noClass && guidanceScale
        ? guided(ofClass, split.addSamplePart(body, sample, atTime, noClass), guidanceScale)
        : ofClass;
    const scaled = times(unscaled, 'scaledFromOutput');
    const output = form.addsInput ? add(scaled, times(sample, 'scaledFromInput')) : scaled;
    const predicted = add(times(sample, 'originalFromSample'), times(output, 'originalFromOutput'));
    const original = form.clip === null ? predicted : clip(predicted, -form.clip, form.clip);
    let previous = add(times(original, 'fromOriginal'), times(sample, 'fromSample'));
    if (form.usesOutput) previous = add(previous, times(output, 'fromOutput'));
    if (noise) previous = add(previous, times(gather(noise, trip), 'fromNoise'));
    // Clip may turn NaN into its limit: the output is checked by itself. The difference is NaN for NaN and infinity.
    const zero = (value: Value) => reduceSum(sub(value, value));
    return { state: [previous], perTrip: [add(zero(output), zero(previous))] };
  });
  const [result = start] = state;
  const [finite = start] = perTrip;
  graph.output('previous_sample', result);
  graph.output('finite', finite);
  return graph;
}

function guided(ofClass: Value, ofNone: Value, scale: Value): Value {
  return add(ofNone, mul(sub(ofClass, ofNone), scale));
}

/** The scalars that steps of this form have. */
export function scalarsOf(form: StepForm): Coefficient[] {
  const optional: Partial<Record<Coefficient, boolean>> = {
    scaledFromOutput: form.scalesOutput,
    scaledFromInput: form.addsInput,
    fromOutput: form.usesOutput,
    fromNoise: form.usesNoise,
  };
  return COEFFICIENTS.filter((name) => optional[name] ?? true);
}
