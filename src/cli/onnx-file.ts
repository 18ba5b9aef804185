import { OnnxFormatError } from '../errors.ts';
import { withRegularFile } from '../hub/regular-file.ts';

/** The bytes of an ONNX file. @throws {OnnxFormatError} when there is none. */
export function readOnnxFile(file: string): Promise<Uint8Array> {
  const fail = (message: string, cause?: ErrorOptions) => new OnnxFormatError(message, cause);
  return withRegularFile(file, fail, (opened) => opened.read(0, opened.size));
}
