import type { Value } from '../../graph/graph.ts';
import { concat, reshape } from '../../graph/ops/index.ts';
import { adamStep, clipByGlobalNorm, emaStep, globalNorm } from '../../graph/optimizer.ts';
import type { BatchGradients } from './batch-gradients.ts';
import type { StateKind, StateVector, StepInputs, TrainingGraphSettings } from './training-graph.ts';

/** Clipping, Adam and EMA: the next state, and the row of `STEP_METRICS`. */
export function updateStep(
  { adam, maxGradNorm }: TrainingGraphSettings,
  layout: readonly StateVector[],
  state: readonly Value[],
  { flat, terms }: BatchGradients,
  scalars: StepInputs['scalars'],
): { next: Value[]; metrics: Value } {
  const current = (kind: StateKind) =>
    layout.flatMap((vector, index) =>
      vector.kind === kind ? [{ bucket: vector.bucket, value: state[index] as Value }] : [],
    );
  const vectors = current('parameters');
  const norm = globalNorm(flat);
  const clipped = maxGradNorm > 0 ? clipByGlobalNorm(flat, norm, maxGradNorm) : flat;

  const { step_size: stepSize, epsilon, keep, one_minus_decay } = scalars;
  const firstMoments = current('first_moment');
  const secondMoments = current('second_moment');
  const updated = vectors.map(({ value }, index) =>
    adamStep(
      {
        parameters: value,
        firstMoment: firstMoments[index]?.value as Value,
        secondMoment: secondMoments[index]?.value as Value,
      },
      clipped[index] as Value,
      { stepSize, epsilon, keep },
      adam,
    ),
  );
  const averages = current('ema').map(({ value }, index) =>
    emaStep(value, updated[index]?.parameters as Value, one_minus_decay),
  );
  return {
    next: [
      ...updated.map((vector) => vector.parameters),
      ...updated.map((vector) => vector.firstMoment),
      ...updated.map((vector) => vector.secondMoment),
      ...averages,
    ],
    metrics: concat([terms, reshape(norm, [1])], 0),
  };
}
