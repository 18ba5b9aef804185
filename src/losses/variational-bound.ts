import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import {
  add,
  clip,
  exp,
  greater,
  less,
  log,
  mul,
  neg,
  square,
  stopGradient,
  sub,
  tanh,
  where,
} from '../graph/ops/elementwise.ts';
import { gather } from '../graph/ops/indexing.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { reshape, unsqueeze } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import { elementCount, fixedShape, formatShape, formatType, sameShape, toTensorData } from '../graph/types.ts';
import { HALF_LEVEL, LAST_LEVEL, posteriorTables } from './arrays/variational-bound.ts';
import { cleanSampleError } from './isotropy.ts';
import type { LearnedVariance, LossInputs } from './loss.ts';

/**
 * One term of the variational bound at each sample's timestep, in bits per element, averaged over the batch:
 * KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for t > 0, and -log p(x_0 | x_1) of the discretised Gaussian at t = 0.
 * The gradient reaches the learned variance only; the mean counts as given (Nichol & Dhariwal 2021, section 3.1).
 * It is `_vb_terms_bpd` of guided-diffusion with LEARNED_RANGE and without clipping; the whole bound is T times as much.
 */
export function variationalBoundOf(inputs: LossInputs, learned: LearnedVariance): Value {
  checkShapes(inputs, learned);
  const { logVariance, logRange, cleanPrecision } = posteriorTables(learned.betas);
  const at = atTimestep(inputs, learned);
  // As rows, because webgpu, which turns images to channels last, would turn the masks of `where` on the cpu.
  const [batch = 1, ...rest] = fixedShape(inputs.epsilon.shape);
  const asRows = (value: Value) => reshape(value, [batch, elementCount(rest)]);
  // x_0 less its prediction from x_t. The means of q and p differ by this times the factor of x_0.
  const { inputNoise = inputs.epsilon } = inputs;
  const error = asRows(stopGradient(cleanSampleError({ ...inputs, epsilon: inputNoise })));
  const fraction = mul(add(asRows(learned.output), scalarLike(error, 1)), scalarLike(error, 0.5));
  // log of the learned variance over the posterior's
  const excess = mul(fraction, at(logRange));

  const overlap = mul(exp(neg(excess)), add(mul(square(error), at(cleanPrecision)), scalarLike(error, 1)));
  const divergence = mul(add(sub(excess, scalarLike(error, 1)), overlap), scalarLike(error, 0.5));
  // At t = 0 the posterior mean is the predicted x_0 itself.
  const halfLog = mul(add(excess, at(logVariance)), scalarLike(error, 0.5));
  const nll = neg(discretisedGaussianLogLikelihood(asRows(inputs.cleanSample), error, exp(neg(halfLog))));

  const isFirst = greater(at(logVariance.map((_, t) => (t === 0 ? 1 : 0))), scalarLike(error, 0.5));
  return mul(reduceMean(where(isFirst, nll, divergence)), scalarLike(error, 1 / Math.LN2));
}

function checkShapes({ epsilon }: LossInputs, { output, timestep }: LearnedVariance): void {
  if (output.dtype !== epsilon.dtype || !sameShape(output.shape, epsilon.shape))
    throw new GraphError(
      `learnedVariance.output is ${formatType(output)}, but epsilon is ${formatType(epsilon)}: they must be alike`,
    );
  if (!sameShape(timestep.shape, epsilon.shape.slice(0, 1)))
    throw new GraphError(
      `learnedVariance.timestep is ${formatShape(timestep.shape)}, but must be ${formatShape(epsilon.shape.slice(0, 1))}: one for each sample`,
    );
}

/** Picks each sample's entry of a table: [batch, 1]. */
function atTimestep({ epsilon }: LossInputs, { timestep }: LearnedVariance) {
  return (table: Float64Array): Value => {
    const data = toTensorData(epsilon.dtype, Array.from(table));
    return unsqueeze(gather(epsilon.graph.constant(epsilon.dtype, [table.length], data), timestep), [1]);
  };
}

/** @param error x less the mean. @param precision one over the standard deviation. */
function discretisedGaussianLogLikelihood(x: Value, error: Value, precision: Value): Value {
  const constant = (value: number) => scalarLike(x, value);
  const above = normalCdf(mul(precision, add(error, constant(HALF_LEVEL))));
  const below = normalCdf(mul(precision, sub(error, constant(HALF_LEVEL))));
  const logOf = (probability: Value) => log(clip(probability, 1e-12, 1));
  return where(
    less(x, constant(-LAST_LEVEL)),
    logOf(above),
    where(greater(x, constant(LAST_LEVEL)), logOf(sub(constant(1), below)), logOf(sub(above, below))),
  );
}

/** The reference's approximation of the normal distribution function: (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2. */
function normalCdf(x: Value): Value {
  const cubic = mul(x, add(mul(square(x), scalarLike(x, 0.044715)), scalarLike(x, 1)));
  const wave = tanh(mul(cubic, scalarLike(x, Math.sqrt(2 / Math.PI))));
  return mul(add(wave, scalarLike(x, 1)), scalarLike(x, 0.5));
}
