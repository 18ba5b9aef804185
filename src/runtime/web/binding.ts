import * as ort from '#ort';
import { nextTurn } from '#platform/system';
import { errorText, OnnxFormatError } from '../../errors.ts';
import { threadLimit } from '../../threads/threads.ts';

// onnxruntime-web as runtime/session.ts needs it. See node/binding.ts for the same in Node.js.

let fixed = false;

/** Whether a session was made: onnxruntime-web reads its settings once. */
export const isFixed = (): boolean => fixed;

/** onnxruntime-web, with its number of threads set. */
export function nativeOrt(): typeof ort {
  if (!fixed) ort.env.wasm.numThreads = wasmThreads();
  fixed = true;
  return ort;
}

/** More gained nothing for the networks of this package. */
const MAX_THREADS = 4;

/**
 * Threads share memory, which a browser allows to pages with COOP and COEP only. Each starts with the script that holds
 * onnxruntime-web's: where that is not a file of its own it is the page's bundle, which would run in every thread.
 */
function wasmThreads(): number {
  const mayHave = globalThis.crossOriginIsolated && ort.env.wasm.wasmPaths !== undefined;
  return mayHave ? (threadLimit() ?? Math.min(MAX_THREADS, navigator.hardwareConcurrency)) : 1;
}

// A tab has one realm: models and tensors are taken as they are.
const same = <Value>(value: Value): Value => value;
export const nativeBytes: (bytes: Uint8Array) => Uint8Array = same;
export const nativeTensors: <Tensors>(tensors: Tensors) => Tensors = same;
export const localTensors: <Tensors>(tensors: Tensors) => Tensors = same;
export const localData: <Data>(data: Data) => Data = same;

/** @throws {OnnxFormatError} when the file cannot be fetched. */
export async function modelBytes(url: string): Promise<Uint8Array> {
  const response = await fetch(url).catch((cause: unknown) => {
    throw new OnnxFormatError(`the model ${url} cannot be fetched: ${errorText(cause)}`, { cause });
  });
  if (!response.ok) throw new OnnxFormatError(`the model ${url} cannot be fetched: HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A thread that was busy for longer than this answers its messages before it goes on. */
const TURN_MS = 15;
let lastTurn = 0;

/** A run of wasm blocks its thread. Between runs the thread sees what came in: a message to stop, a click. */
export async function afterRun(): Promise<void> {
  if (performance.now() - lastTurn < TURN_MS) return;
  await nextTurn();
  lastTurn = performance.now();
}

/** Whether a run blocks the thread that calls it. */
export const runsBlock: boolean = true;

/** Whether onnxruntime may map files that a model names: it sees none of a store. */
export const mapsFiles: boolean = false;
