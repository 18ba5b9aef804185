import { world } from '#distributed/world';
import { warn as platformWarn } from '#platform/system';
import {
  chooseDeviceId,
  chosenDeviceId,
  cudaDeviceCount,
  GPU_ADVICE,
  tryCpu,
  tryGpu,
  WHERE_TO_LOOK,
} from '#runtime/devices';
import { usesTf32 } from '#runtime/tf32';
import { DeviceError, InvalidArgumentError } from '../errors.ts';
import { Graph } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { add, cast } from '../graph/ops/elementwise.ts';
import * as z from '../zod.ts';

/** The names of devices. */
export const DEVICES = ['auto', 'gpu', 'cpu', 'webgpu', 'cuda'] as const;
/** Where a session runs. `gpu` and `auto` are transformers.js's names for "any GPU" and "the best there is". */
export type Device = (typeof DEVICES)[number];
/** A device that a session can be made on. 'cuda' is the GPU 0, 'cuda:1' the one after it. */
export type ConcreteDevice = 'cpu' | 'webgpu' | 'cuda' | `cuda:${number}`;

/** Whether it is a GPU of cuda, whatever its number. */
export function isCuda(device: ConcreteDevice): boolean {
  return device.startsWith('cuda');
}

/** The device as sessions of onnxruntime take it. */
export function executionProvider(device: ConcreteDevice): 'cpu' | 'webgpu' | 'cuda' | CudaProvider {
  const [name, id] = device.split(':');
  return name === 'cuda' && id !== undefined ? { name, deviceId: Number(id) } : (device as 'cpu' | 'webgpu' | 'cuda');
}

/** The device as options name it. */
export function deviceOptions(device: ConcreteDevice): { device: DeviceReport['device']; device_id?: number } {
  const provider = executionProvider(device);
  return typeof provider === 'string' ? { device: provider } : { device: 'cuda', device_id: provider.deviceId };
}

interface CudaProvider {
  readonly name: 'cuda';
  readonly deviceId: number;
}

/** What is known of a device of this machine. */
export interface DeviceReport {
  /** The device. */
  readonly device: 'cpu' | 'webgpu' | 'cuda';
  /** Whether a session computes on it. */
  readonly available: boolean;
  /** What is missing and how to get it; empty where the device is available. */
  readonly advice: string;
  /** Whether it also computes in float16, as `mixed_precision: 'fp16'` and `dtype: 'fp16'` need it. */
  readonly float16: boolean;
  /** Of cuda: whether it multiplies float32 in TF32 (see `configureRuntime`). */
  readonly tf32?: boolean | undefined;
  /** Of cuda: how many GPUs this process sees, as `CUDA_VISIBLE_DEVICES` says; absent where it is not known. */
  readonly device_count?: number | undefined;
  /** Of cuda: the GPU that is taken without `device_id`; absent where there is none for this process. */
  readonly device_id?: number | undefined;
}

/** @throws {InvalidArgumentError} when `device` is not the name of a device. */
export function parseDevice(device: string): Device {
  const known = DEVICES.find((name) => name === device);
  if (known) return known;
  throw new InvalidArgumentError(`device '${device}' is unknown: use one of ${DEVICES.join(', ')}`);
}

/** Why `auto` does not look for a GPU where the samples are points. */
export const AUTO_ON_POINTS = 'their models are so small that a GPU would wait for its next command most of the time';

/** A number of a GPU, for options. */
export const deviceIdOption = z.int().check(z.gte(0), z.lte(1023));

interface Resolving {
  /** Which GPU of cuda, from 0 among those that the process sees; default: see `ownDeviceId`. */
  readonly device_id?: number | undefined;
  /** What the model draws; default unknown, which is as for images. */
  readonly samples?: 'points' | 'images' | undefined;
  /** Receives the one warning of `auto`; default `process.emitWarning`. */
  readonly warn?: ((message: string) => void) | undefined;
}

/**
 * Finds the device to run on. A named device must be there; `auto` tries cuda, webgpu and cpu, `gpu` the first two,
 * and `auto` says so once when it ends on the cpu. For points `auto` is the cpu.
 *
 * @throws {DeviceError} when the device is not usable, with what to install; when there is no GPU of that number, or more
 * ranks than GPUs.
 */
export async function resolveDevice(
  device: Device,
  { samples, device_id, warn = platformWarn }: Resolving = {},
): Promise<ConcreteDevice> {
  if (device === 'auto' && samples === 'points') return 'cpu';
  if (device === 'auto' || device === 'gpu') {
    if (await isAvailable('cuda')) return cudaDevice(device_id);
    if (await isAvailable('webgpu')) return 'webgpu';
    if (device === 'gpu')
      throw new DeviceError(`device 'gpu': no GPU can be used. ${GPU_ADVICE.webgpu} ${GPU_ADVICE.cuda}`);
    warnOnce(warn, `device 'auto': no GPU can be used, running on the cpu (${WHERE_TO_LOOK})`);
    return 'cpu';
  }
  const advice = await whatIsMissing(device);
  if (advice === undefined) return device === 'cuda' ? cudaDevice(device_id) : device;
  throw new DeviceError(`device '${device}' is not available here. ${advice}`);
}

/** The GPU of that number. */
async function cudaDevice(device_id: number | undefined): Promise<ConcreteDevice> {
  const id = device_id ?? (await ownDeviceId());
  if (id === 0) return 'cuda';
  const device = `cuda:${id}` as const;
  if (await isAvailable(device)) return device;
  const count = await cudaDeviceCount();
  const there = count === undefined ? '' : `: this process sees ${gpus(count)}`;
  throw new DeviceError(
    `device_id ${id} cannot be used${there}. GPUs are counted from 0, among those of CUDA_VISIBLE_DEVICES where it is set`,
  );
}

/**
 * The GPU of cuda that this process takes, and those that it starts: the one that was chosen, else each rank its own, by its
 * number among the ranks of its machine.
 *
 * @throws {DeviceError} when there are more ranks than GPUs.
 */
async function ownDeviceId(): Promise<number> {
  const chosen = chosenDeviceId();
  if (chosen !== undefined) return chosen;
  const { localRank, localSize } = world();
  if (localSize === 1) return 0;
  const count = await cudaDeviceCount();
  if (count === undefined || count >= localSize) {
    chooseDeviceId(localRank);
    return localRank;
  }
  throw new DeviceError(
    `${localSize} ranks run on this machine, but they see only ${gpus(count)}: start ${count} here, use device 'cpu', or let them share a GPU by device_id (--device-id 0)`,
  );
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
    const ofCuda = device === 'cuda' ? { tf32: usesTf32(), ...(available ? await cudaReport() : {}) } : {};
    reports.push({ device, available, advice: advice ?? '', float16, ...ofCuda });
  }
  return reports;
}

const gpus = (count: number) => (count === 1 ? '1 GPU' : `${count} GPUs`);

async function cudaReport(): Promise<Pick<DeviceReport, 'device_count' | 'device_id'>> {
  const device_count = await cudaDeviceCount();
  const device_id = await ownDeviceId().catch(() => undefined);
  return { device_count, device_id };
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
  const provider = executionProvider(device);
  const probe = provider === 'cpu' ? tryCpu(model) : tryGpu(provider, model);
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
