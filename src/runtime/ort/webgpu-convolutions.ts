import { modelBytes } from '#runtime/binding';
import { DeviceError } from '../../errors.ts';
import { decodeModel, type GraphProto, type NodeProto, plainDomain } from '../../graph/onnx/schema.ts';
import { isMiscomputedOnWebgpu } from '../../graph/ops/conv/geometry.ts';

/**
 * Refuses a model that onnxruntime's webgpu would silently compute wrongly, see `isMiscomputedOnWebgpu`. Models
 * of this package have none of these convolutions; files of others may. Filters are looked at where the file holds them.
 *
 * @param model the bytes of an ONNX file, or its path; in a browser its URL.
 * @throws {DeviceError} that lists the convolutions. @throws {OnnxFormatError} when the file is damaged.
 */
export async function refuseMiscomputedConvolutions(model: Uint8Array | string): Promise<void> {
  const { graph } = decodeModel(typeof model === 'string' ? await modelBytes(model) : model);
  const found = miscomputed(graph, new Map());
  if (found.length === 0) return;
  throw new DeviceError(
    `the model cannot run on 'webgpu': onnxruntime computes ${found.length} of its convolutions wrongly there, of ${found.slice(0, 3).join(', ')}. Use device 'cpu' or 'cuda', or train and save it with this package, which adds channels of zeros (https://github.com/microsoft/onnxruntime/issues/29651)`,
  );
}

/** @param outer dims of tensors of the enclosing graphs by name. */
function miscomputed(graph: GraphProto, outer: ReadonlyMap<string, readonly number[]>): string[] {
  const { node: nodes = [], initializer = [] } = graph;
  const dims = new Map(outer);
  for (const tensor of initializer) dims.set(tensor.name ?? '', tensor.dims ?? []);
  for (const { opType, output = [], attribute = [] } of nodes) {
    const tensor = opType === 'Constant' ? attribute.find(({ name }) => name === 'value')?.t : undefined;
    if (tensor) dims.set(output[0] ?? '', tensor.dims ?? []);
  }
  return nodes.flatMap((node) => [
    ...describedIfMiscomputed(node, dims),
    ...(node.attribute ?? []).flatMap(({ g }) => (g ? miscomputed(g, dims) : [])),
  ]);
}

function describedIfMiscomputed(node: NodeProto, dims: ReadonlyMap<string, readonly number[]>): string[] {
  const { opType, domain, name = '', input = [], attribute = [] } = node;
  const weight = dims.get(input[1] ?? '');
  if (opType !== 'Conv' || plainDomain(domain) !== '' || !weight) return [];
  const ints = (key: string) => attribute.find((one) => one.name === key)?.ints ?? [];
  const facts = {
    weight,
    strides: ints('strides'),
    pads: ints('pads'),
    group: attribute.find((one) => one.name === 'group')?.i ?? 1,
  };
  return isMiscomputedOnWebgpu(facts) ? [`'${name}' (${weight[1]} to ${weight[0]} channels)`] : [];
}
