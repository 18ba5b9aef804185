import { workerData } from 'node:worker_threads';
import { HubError, NonFiniteLossError } from '../../src/errors.ts';
import { serve } from '../../src/threads/channel.ts';

/** The other side of the channels in channel.test.ts: a thread or a process. */
export type Call =
  | { readonly kind: 'double'; readonly values: Float32Array }
  | { readonly kind: 'fail'; readonly how: 'loss' | 'hub' | 'plain' | 'unknown' }
  | { readonly kind: 'wait' }
  | { readonly kind: 'exit' }
  | { readonly kind: 'data' };

class OwnError extends Error {
  override name = 'OwnError';
}

serve<Call, unknown, number>(
  async (call, { signal, emit }) => {
    switch (call.kind) {
      case 'double':
        for (const value of call.values) emit(value);
        return call.values.map((value) => 2 * value);
      case 'fail':
        if (call.how === 'loss') throw new NonFiniteLossError('the loss is NaN', 17);
        if (call.how === 'hub') throw new HubError('no answer', { unreachable: true });
        if (call.how === 'plain') throw new OwnError('mine');
        throw 'a text';
      case 'wait':
        await new Promise<void>((_, reject) => {
          const kept = setInterval(() => undefined, 1000);
          signal.addEventListener('abort', () => {
            clearInterval(kept);
            reject(signal.reason);
          });
        });
        return undefined;
      case 'exit':
        process.stderr.write('out of paper\n');
        return process.exit(3);
      case 'data':
        return [workerData, globalThis.registeredHere];
    }
  },
  (answer) => (answer instanceof Float32Array ? [answer.buffer as ArrayBuffer] : []),
);

declare global {
  var registeredHere: string | undefined;
}
