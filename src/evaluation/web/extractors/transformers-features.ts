import { NotInBrowserError } from '../../../errors.ts';
import type * as inNode from '../../extractors/transformers-features.ts';

/** In a browser transformers.js keeps weights where their checksum cannot be taken. */
export const TransformersFeatures: Pick<typeof inNode.TransformersFeatures, 'load'> = {
  /** @throws {NotInBrowserError} always. */
  async load({ model }) {
    throw new NotInBrowserError(
      `the extractor '${model}' works in Node, not in a browser: its weights have no checksum there. Give OnnxFeatures the .onnx file of the model`,
    );
  },
};
