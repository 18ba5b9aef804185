import { errorText, OnnxFormatError } from '../../errors.ts';
import { type GraphProto, ModelMessage, type ModelProto } from './schema.ts';

/** The operator sets that `lowering` understands. */
export const OLDEST_OPSET = 9;
export const NEWEST_OPSET = 21;

/** A decoded ONNX model of a supported operator set. */
export interface OnnxProgram {
  readonly graph: GraphProto;
  readonly opset: number;
}

/** @throws {OnnxFormatError} when the bytes are no ONNX model, are damaged, or of an operator set that is not supported. */
export function decodeOnnx(bytes: Uint8Array): OnnxProgram {
  const { graph, opset } = decodeModel(bytes);
  if (opset === undefined || !(opset >= OLDEST_OPSET && opset <= NEWEST_OPSET))
    throw new OnnxFormatError(
      `operator set ${opset ?? 'missing'} is not supported: export the model with opset ${OLDEST_OPSET} to ${NEWEST_OPSET}`,
    );
  return { graph, opset };
}

/** A decoded model of any operator set. @throws {OnnxFormatError} when the bytes are no ONNX model, or are damaged. */
export function decodeModel(bytes: Uint8Array): { graph: GraphProto; opset: number | undefined } {
  const model = decode(bytes);
  const opset = model.opsetImport?.find(({ domain = '' }) => plainDomain(domain) === '')?.version;
  if (!model.graph) throw new OnnxFormatError('the ONNX model holds no graph');
  return { graph: model.graph, opset };
}

function decode(bytes: Uint8Array): ModelProto {
  try {
    return ModelMessage.toObject(ModelMessage.decode(bytes), {
      longs: Number,
      arrays: false,
      defaults: false,
    }) as ModelProto;
  } catch (cause) {
    throw new OnnxFormatError(`not an ONNX model, or a truncated one: ${errorText(cause)}`, { cause });
  }
}

/** ONNX's own domain has two names. */
export function plainDomain(domain = ''): string {
  return domain === 'ai.onnx' ? '' : domain;
}
