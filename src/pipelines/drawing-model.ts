import { onnxPieces } from '../graph/onnx/write.ts';
import { drawsInOwnLayout } from '../models/drawing-graph.ts';
import { type DiffusionModel, exportModelGraph } from '../models/model.ts';
import { onnxChecksum } from '../models/onnx/file.ts';
import { readModelWeights } from '../models/weights.ts';
import { DrawingNetwork } from './drawing-network.ts';
import { ModelSession } from './model-session.ts';

/**
 * A model of a file of weights in the layout in which the cpu draws. The weights are read once, and held only in the forms
 * that the layout takes. Undefined for a model that gains nothing by it.
 */
export async function drawingModel(
  architecture: DiffusionModel,
  file: string,
  config: Readonly<Record<string, unknown>>,
): Promise<{ model: ModelSession; checksum: () => Promise<string> } | undefined> {
  if (!drawsInOwnLayout(architecture)) return undefined;
  const weights = await readModelWeights(architecture, file);
  const timestepType = architecture.takesFractionalTimesteps ? 'float32' : 'int64';
  // Of the ONNX file that the weights would make, as on other devices.
  const sha256 = await onnxChecksum(onnxPieces(exportModelGraph(architecture, weights, timestepType)));
  const network = await DrawingNetwork.create(architecture, weights);
  return { model: ModelSession.of(network, config, architecture.sampleShape), checksum: async () => sha256 };
}
