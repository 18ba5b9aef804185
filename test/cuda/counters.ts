import { readFileSync } from 'node:fs';
import path from 'node:path';
import { InferenceSession } from 'onnxruntime-node';

/** What the fake counts; see counters.h. */
export interface Counters {
  readonly bytesToDevice: number;
  readonly copiesToHost: number;
  readonly bytesToHost: number;
  readonly launches: number;
  readonly memoryPeak: number;
  readonly unevenConvolutions: number;
  readonly loadedWithoutTf32: number;
  /** Bit d: memory was allocated on device d. */
  readonly devices: number;
}

/** The file of this process: records of a name, 24 bytes, and a value, 8. */
export function counters(): Counters {
  const file = readFileSync(path.join(process.env.FAKE_CUDA_COUNTERS ?? '', String(process.pid)));
  const records = Array.from({ length: file.length / 32 }, (_, i) => file.subarray(32 * i, 32 * (i + 1)));
  return Object.fromEntries(
    records.map((record) => [record.toString('latin1', 0, record.indexOf(0)), Number(record.readBigInt64LE(24))]),
  ) as unknown as Counters;
}

/** Where nodes are placed is said in the verbose log of a session alone. Of sessions on the cpu nobody wants to know. */
export function logPlacement(): void {
  const create = InferenceSession.create.bind(InferenceSession);
  const logged: typeof create = (...args: unknown[]) => {
    const settings = args.findLast((arg) => typeof arg === 'object') as InferenceSession.SessionOptions;
    const onCuda = JSON.stringify(settings.executionProviders).includes('cuda');
    const [model, ...others] = args as Parameters<typeof create>;
    return onCuda ? create(model, { ...settings, logSeverityLevel: 0 }) : create(model, ...others);
  };
  Object.assign(InferenceSession, { create: logged });
}
