import { unzipSync } from 'fflate';
import { decodeFloat16 } from '../../src/files/float-formats.ts';
import { zipFolder } from '../../src/files/zip.ts';
import { exportModel, initialParameters, namedViews } from '../../src/models/model.ts';
import { OnnxModel } from '../../src/models/onnx/model.ts';
import { saveTrainedPipeline } from '../../src/trainers/save-pipeline.ts';
import type { ModelRun } from './model-run.ts';

/** A model of this page is half a megabyte. */
const MAX_FILE_BYTES = 64 * 2 ** 20;
const FOLDER = 'model';

/** The averaged weights as an ONNX file, or as a pipeline folder in a zip file. */
export async function savedModel(run: ModelRun, format: 'onnx' | 'zip'): Promise<Uint8Array<ArrayBuffer>> {
  const { model, scheduler, points } = run;
  const weights = namedViews(model.parameters, await run.training.weights());
  if (format === 'onnx') return new Uint8Array(exportModel(model, weights));
  await saveTrainedPipeline(FOLDER, { model, weights, scheduler, points });
  return zipFolder(FOLDER);
}

/** The weights in a file that `savedModel` gave, or that comes with the page, as one vector. */
export function loadedWeights(
  { model }: ModelRun,
  { name, bytes }: { readonly name: string; readonly bytes: Uint8Array },
): Float32Array {
  if (bytes.length > MAX_FILE_BYTES)
    throw new Error(`${name} has ${Math.round(bytes.length / 2 ** 20)} MB. The models of this page have less than 2.`);
  if (name.endsWith('.f16'))
    return decodeFloat16(new Uint16Array(bytes.slice().buffer), new Float32Array(bytes.length / 2));
  const onnx = name.toLowerCase().endsWith('.zip') ? onnxOf(name, bytes) : bytes;
  const found = parametersOf(name, onnx);
  return Float32Array.from(
    model.parameters.flatMap((wanted) => {
      const values = found.get(wanted.name);
      if (values?.length === wanted.shape.reduce((product, axis) => product * axis, 1)) return [...values];
      throw new Error(`${name} is another network than that of this page: it has no fitting ${wanted.name}.`);
    }),
  );
}

function parametersOf(name: string, bytes: Uint8Array): Map<string, Float32Array> {
  try {
    return initialParameters(OnnxModel.fromBytes(bytes, { sample_shape: [2] }), 0);
  } catch (cause) {
    throw new Error(`${name} is not an ONNX model of points: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

function onnxOf(name: string, zip: Uint8Array): Uint8Array {
  const wanted = ['unet_ema/model.onnx', 'unet/model.onnx'];
  let files: Record<string, Uint8Array>;
  try {
    files = unzipSync(zip, { filter: (file) => wanted.includes(file.name) && file.originalSize <= MAX_FILE_BYTES });
  } catch (cause) {
    throw new Error(`${name} is not a zip file that can be read.`, { cause });
  }
  const model = wanted.map((path) => files[path]).find((bytes) => bytes);
  if (!model) throw new Error(`${name} holds no pipeline: there is no unet/model.onnx in it.`);
  return model;
}
