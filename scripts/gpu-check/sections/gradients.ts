import { readFileSync } from 'node:fs';
import { type NamedTensor, readSafetensors } from '../../../src/files/safetensors.ts';
import type { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { UNet2DModel } from '../../../src/models/index.ts';
import type { ParameterSpec } from '../../../src/nn/parameters.ts';
import type { ConcreteDevice } from '../../../src/runtime/device.ts';
import { float32Data, hostTensor, Session } from '../../../src/runtime/session.ts';
import { caseFeeds, caseGraph } from '../../../test/models/unet-2d/case-graph.ts';
import type { Row, Section } from '../section.ts';

const NETWORKS = ['ddpm-style', 'default-style', 'variants/resnet-down-up'];
const LAMBDA = 0.1;
/** Relative, by norm. TF32 has 10 bits of mantissa: 2^-11 for one product, more for a chain of them. */
const LIMIT: Readonly<Record<string, number>> = { float32: 5e-4, TF32: 2e-2 };

/** The loss and the gradient of every parameter of small U-Nets, against diffusers and torch in float64. */
export const gradientsSection: Section = {
  title: 'Loss and gradients',
  note: `The iso loss at λ = ${LAMBDA} of ${NETWORKS.length} small U-Nets and the gradient of each parameter against diffusers with torch: the largest relative error, by norm.`,
  cases: (devices) =>
    devices.flatMap((device) =>
      (device === 'cuda' ? ['float32', 'TF32'] : ['float32']).map((precision) => ({ device, precision, batch: 4 })),
    ),
  async run({ device, precision, root, quick }) {
    const rows: Row[] = [];
    for (const name of quick ? NETWORKS.slice(0, 1) : NETWORKS) {
      const { loss, gradient, parameter } = await compare(`${root}test/fixtures/unet/${name}/`, device);
      const limit = LIMIT[precision];
      rows.push({ what: `${name}: loss`, value: loss, limit });
      rows.push({ what: `${name}: gradients (the worst: ${parameter})`, value: gradient, limit });
    }
    return rows;
  },
};

async function compare(folder: string, device: ConcreteDevice) {
  const model = UNet2DModel.fromConfig(JSON.parse(readFileSync(`${folder}config.json`, 'utf8')));
  const given = await readSafetensors(`${folder}case.safetensors`);
  const weights = await readSafetensors(`${folder}diffusion_pytorch_model.safetensors`);
  const parameterIn = (graph: Graph, { name, shape }: ParameterSpec) => graph.input(name, 'float32', shape);
  const target = device === 'cuda' ? 'cuda' : 'any';
  const session = await Session.create(writeOnnx(caseGraph(model, given, LAMBDA, parameterIn, { target })), device);
  const outputs = await session.run({
    ...caseFeeds(given),
    ...Object.fromEntries(
      model.parameters.map(({ name, shape }) => [name, hostTensor('float32', shape, numbers(weights, name))]),
    ),
  });
  await session.release();
  let worst = { gradient: 0, parameter: '' };
  for (const { name, isFrozen } of model.parameters) {
    // The bias of a key shifts all scores of a pixel alike: the true gradient is 0, and both sides have rounding.
    if (isFrozen || name.endsWith('.to_k.bias')) continue;
    const error = relativeError(float32Data(outputs[`d_${name}`], name), numbers(given, `grad_iso/${name}`));
    if (!(error <= worst.gradient)) worst = { gradient: error, parameter: name };
  }
  return { loss: relativeError(float32Data(outputs.loss, 'loss'), numbers(given, 'loss_iso')), ...worst };
}

function numbers(tensors: ReadonlyMap<string, NamedTensor>, name: string): Float32Array {
  return Float32Array.from(tensors.get(name)?.data ?? [], Number);
}

/** By norm. */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let size = 0;
  expected.forEach((value, i) => {
    difference += (value - (actual[i] ?? Number.NaN)) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}
