import { type ConcreteDevice, doublingModel } from '../device.ts';
import { float32Data, hostTensor, Session } from '../session.ts';

const probes = new Map<ConcreteDevice, Promise<boolean>>();

/**
 * Whether a run on a device writes into the host tensors that it is given for its outputs; tried once a process.
 * onnxruntime-node does. onnxruntime-web (1.31) leaves them as they are, without an error:
 * https://github.com/microsoft/onnxruntime/issues/25786
 */
export function writesGivenOutputs(device: ConcreteDevice): Promise<boolean> {
  const known = probes.get(device);
  if (known) return known;
  const probe = tryGivenOutput(device);
  probes.set(device, probe);
  return probe;
}

async function tryGivenOutput(device: ConcreteDevice): Promise<boolean> {
  const session = await Session.create(doublingModel(), device);
  const y = hostTensor('float32', [1], new Float32Array(1));
  await session.run({ x: hostTensor('float32', [1], Float32Array.of(1)) }, { y });
  await session.release();
  return float32Data(y, 'y')[0] === 2;
}
