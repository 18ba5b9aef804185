/**
 * The process behind `SnapshotEvaluator`: takes requests over the IPC channel and answers them in order. It ends with
 * the channel; Ctrl-C, which reaches it too, is the trainer's to handle.
 */

import { errorText } from '../../errors.ts';
import { SnapshotEvaluation } from './evaluate-snapshot.ts';
import type { EvaluatorAnswer, EvaluatorRequest } from './snapshot-evaluator.ts';

let evaluation: SnapshotEvaluation | undefined;
let last: Promise<void> = Promise.resolve();

process.on('SIGINT', () => {});
process.on('disconnect', () => process.exit());
process.on('message', (request: EvaluatorRequest) => {
  last = last.then(async () => {
    process.send?.(await answerTo(request));
  });
});

async function answerTo(request: EvaluatorRequest): Promise<EvaluatorAnswer> {
  try {
    if (request.kind === 'prepare') {
      evaluation = await SnapshotEvaluation.prepare(request.settings);
      return { id: request.id, result: { files: [], report: undefined } };
    }
    if (!evaluation) throw new Error('there are no settings yet');
    return { id: request.id, result: await evaluation.run(request.snapshot, request.image) };
  } catch (error) {
    return { id: request.id, error: errorText(error) };
  }
}
