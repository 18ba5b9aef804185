import { warn as platformWarn } from '#platform/system';
import { GPU_ADVICE, tryCpu, tryGpu, WHERE_TO_LOOK } from '#runtime/devices';
import { usesTf32 } from '#runtime/tf32';
import { DeviceError, InvalidArgumentError } from '../errors.ts';
import { Graph } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { add, cast } from '../graph/ops/elementwise.ts';

/** Where a session runs. `gpu` and `auto` are transformers.js's names for "any GPU" and "the best there is". */
export const DEVICES = ['auto', 'gpu', 'cpu', 'webgpu', 'cuda'] as const;
export type Device = (typeof DEVICES)[number];
/** A device that a session can be made on. */
export type ConcreteDevice = 'cpu' | 'webgpu' | 'cuda';

export interface DeviceReport {
  /** The device. */
  readonly device: ConcreteDevice;
  /** Whether a session computes on it. */
  readonly available: boolean;
  /** What is missing and how to get it; empty where the device is available. */
  readonly advice: string;
  /** Whether it also computes in float16, as `mixed_precision: 'fp16'` and `dtype: 'fp16'` need it. */
  readonly float16: boolean;
  /** Of cuda: whether it multiplies float32 in TF32 (see `configureRuntime`). */
  readonly tf32?: boolean | undefined;
}

/** @throws {InvalidArgumentError} when `device` is not the name of a device. */
export function parseDevice(device: string): Device {
  const known = DEVICES.find((name) => name === device);
  if (known) return known;
  throw new InvalidArgumentError(`device '${device}' is unknown: use one of ${DEVICES.join(', ')}`);
}

/** Why `auto` does not look for a GPU where the samples are points. */
export const AUTO_ON_POINTS = 'their models are so small that a GPU would wait for its next command most of the time';

interface Resolving {
  /** What the model draws; default unknown, which is as for images. */
  readonly samples?: 'points' | 'images' | undefined;
  /** Receives the one warning of `auto`; default `process.emitWarning`. */
  readonly warn?: ((message: string) => void) | undefined;
}

/**
 * Finds the device to run on. A named device must be there; `auto` tries cuda, webgpu and cpu, `gpu` the first two,
 * and `auto` says so once when it ends on the cpu. For points `auto` is the cpu.
 *
 * @throws {DeviceError} when the device is not usable, with what to install.
 */
export async function resolveDevice(
  device: Device,
  { samples, warn = platformWarn }: Resolving = {},
): Promise<ConcreteDevice> {
  if (device === 'auto' && samples === 'points') return 'cpu';
  if (device === 'auto' || device === 'gpu') {
    for (const candidate of ['cuda', 'webgpu'] as const) if (await isAvailable(candidate)) return candidate;
    if (device === 'gpu')
      throw new DeviceError(`device 'gpu': no GPU can be used. ${GPU_ADVICE.webgpu} ${GPU_ADVICE.cuda}`);
    warnOnce(warn, `device 'auto': no GPU can be used, running on the cpu (${WHERE_TO_LOOK})`);
    return 'cpu';
  }
  const advice = await whatIsMissing(device);
  if (advice === undefined) return device;
  throw new DeviceError(`device '${device}' is not available here. ${advice}`);
}

let warned = false;
function warnOnce(warn: (message: string) => void, message: string): void {
  if (!warned) warn(message);
  warned = true;
}

/** Every device, whether it can be used, and what to do where it cannot. */
export async function deviceReports(): Promise<DeviceReport[]> {
  const reports: DeviceReport[] = [];
  for (const device of ['cpu', 'webgpu', 'cuda'] as const) {
    const advice = await whatIsMissing(device);
    const available = advice === undefined;
    const float16 = available && (await computesInFloat16(device));
    const tf32 = device === 'cuda' ? { tf32: usesTf32() } : {};
    reports.push({ device, available, advice: advice ?? '', float16, ...tf32 });
  }
  return reports;
}

/** Whether a session can really be made and run on the device; tried once a process. */
export async function isAvailable(device: ConcreteDevice): Promise<boolean> {
  return (await whatIsMissing(device)) === undefined;
}

/** @throws {DeviceError} when a device that is available does not compute in float16. @param option what asks for it. */
export async function requireFloat16(device: ConcreteDevice, option: string): Promise<void> {
  if (await computesInFloat16(device)) return;
  throw new DeviceError(
    `${option} needs float16, in which device '${device}' does not compute here: its adapter lacks the feature 'shader-f16'. Leave it out, or use another device`,
  );
}

/** Of webgpu it is a feature of the adapter. The cpu computes in float32 and rounds, and every GPU of cuda has it. */
async function computesInFloat16(device: ConcreteDevice): Promise<boolean> {
  return device !== 'webgpu' || (await whatIsMissing(device, 'float16')) === undefined;
}

type ProbedDType = 'float32' | 'float16';
const probes = new Map<string, Promise<string | undefined>>();

/** What is missing and how to get it; undefined where the device computes. Tried once a process. */
function whatIsMissing(device: ConcreteDevice, dtype: ProbedDType = 'float32'): Promise<string | undefined> {
  const key = `${device}/${dtype}`;
  const known = probes.get(key);
  if (known) return known;
  const model = doublingModel(dtype);
  const probe = device === 'cpu' ? tryCpu(model) : tryGpu(device, model);
  probes.set(key, probe);
  return probe;
}

/** y = x + x for one float, added in `dtype`: enough to tell whether a device computes. */
export function doublingModel(dtype: ProbedDType = 'float32'): Uint8Array {
  const graph = new Graph('probe');
  const x = graph.input('x', 'float32', [1]);
  const added = cast(x, dtype);
  graph.output('y', cast(add(added, added), 'float32'));
  return writeOnnx(graph);
}
