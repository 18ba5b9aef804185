import type { Prdc } from '../src/metrics/prdc/counts.ts';
import { type Measurement, measure, type PairsResult, type Reference, runPairs } from './harness.ts';

const NEAREST_K = 5;

/** Times `ours` and the scikit-learn computation of a loaded reference, interleaved, and prints what both find. */
export async function runPrdcPairs(
  name: string,
  reference: Reference,
  ours: (options: { nearest_k: number }) => Promise<Prdc>,
): Promise<PairsResult> {
  let ourMetrics: Prdc | undefined;
  let referenceMetrics: Prdc | undefined;
  const result = await runPairs({
    name,
    ours: () =>
      measure(async () => {
        ourMetrics = await ours({ nearest_k: NEAREST_K });
      }),
    reference: async () => {
      const answer = await reference.request<Measurement & { metrics: Prdc }>({
        command: 'compute',
        nearest_k: NEAREST_K,
      });
      referenceMetrics = answer.metrics;
      return answer;
    },
  });
  console.log(`ours      ${JSON.stringify(ourMetrics)}`);
  console.log(`reference ${JSON.stringify(referenceMetrics)}`);
  return result;
}
