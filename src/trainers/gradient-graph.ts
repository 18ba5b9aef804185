import { gradients } from '../graph/gradients.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { concat, identity, mul, reduceSum, reshape, square } from '../graph/ops/index.ts';
import { adamStep, emaStep } from '../graph/optimizer.ts';
import { forwardDiffusion, type TrainingGraphSettings } from './training-graph.ts';

/** What a batch reports, in the order of the output `terms`. */
export const LOSS_TERMS = ['loss', 'base_loss', 'isotropy_penalty', 'isotropy'] as const;

/** The output that holds dL/d(parameter). */
export const gradientName = (parameter: string) => `d/${parameter}`;

/**
 * Forward and backward pass of one batch, for models so large that parameters and gradients should exist once.
 *
 * Inputs: every parameter under its name; `clean` and `noise` float32 [1, batch, ...], `timestep` int32 [1, batch].
 * Outputs: `d/<parameter>` for every parameter, and `terms`, float32 [4], the `LOSS_TERMS`.
 */
export function buildGradientGraph(settings: TrainingGraphSettings): Graph {
  const { model, batchSize, loss, predictionType } = settings;
  const graph = new Graph('gradients');
  const parameters = new Map(
    model.parameters.map(({ name, shape }) => [name, graph.input(name, 'float32', shape)] as const),
  );
  const samples = [1, batchSize, ...model.sampleShape];
  const clean = graph.input('clean', 'float32', samples);
  const noise = graph.input('noise', 'float32', samples);
  const timestep = graph.input('timestep', 'int32', [1, batchSize]);
  const { noisy, alphaCumprod } = forwardDiffusion(graph, settings, clean, noise, timestep);
  const step = (value: Value) => reshape(value, value.shape.slice(1).map(Number));
  const terms = loss({
    modelOutput: model.forward(step(noisy), step(timestep), parameters),
    epsilon: step(noise),
    noisySample: step(noisy),
    cleanSample: step(clean),
    alphaCumprod: step(alphaCumprod),
    predictionType,
  });
  const found = gradients(terms.loss, [...parameters.values()]);
  model.parameters.forEach(({ name }, index) => {
    const gradient = found[index];
    if (gradient) graph.output(gradientName(name), identity(gradient));
  });
  const scalars = [terms.loss, terms.base, terms.isotropyPenalty, terms.isotropy];
  graph.output(
    'terms',
    concat(
      scalars.map((scalar) => reshape(scalar, [1])),
      0,
    ),
  );
  return graph;
}

/**
 * Adam, or AdamW, and the moving average on any stretch of the flat state: inputs `parameters`, `first_moment`,
 * `second_moment`, `ema` (with `ema`), `gradient`, float32 ['n'], and the scalars `gradient_scale`, `step_size`,
 * `epsilon`, `keep`, `one_minus_decay`, float32 [1]; outputs each state vector under its name and `_next`.
 */
export function buildUpdateGraph({ adam, ema }: Pick<TrainingGraphSettings, 'adam' | 'ema'>): Graph {
  const graph = new Graph('update');
  const vector = (name: string) => graph.input(name, 'float32', ['n']);
  const scalar = (name: string) => graph.input(name, 'float32', [1]);
  const gradient = mul(vector('gradient'), scalar('gradient_scale'));
  const state = {
    parameters: vector('parameters'),
    firstMoment: vector('first_moment'),
    secondMoment: vector('second_moment'),
  };
  const scalars = { stepSize: scalar('step_size'), epsilon: scalar('epsilon'), keep: scalar('keep') };
  const next = adamStep(state, gradient, scalars, adam);
  graph.output('parameters_next', next.parameters);
  graph.output('first_moment_next', next.firstMoment);
  graph.output('second_moment_next', next.secondMoment);
  if (ema) graph.output('ema_next', emaStep(vector('ema'), next.parameters, scalar('one_minus_decay')));
  return graph;
}

/** The sum of squares of `vector`, float32 ['n'], as `sum`. */
export function buildSquareSumGraph(): Graph {
  const graph = new Graph('square_sum');
  graph.output('sum', reduceSum(square(graph.input('vector', 'float32', ['n']))));
  return graph;
}
