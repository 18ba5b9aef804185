import { requireArray } from '../arguments.ts';
import { InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { decodeFloat16, encodeFloat16 } from '../files/float-formats.ts';
import { concatenated, elementCount } from '../graph/types.ts';
import { type DiffusionInputs, diffusionInputs, type InputNames } from '../models/onnx/inputs.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import { hostTensor, RuntimeExecutionError, type RuntimeTensor, Session } from '../runtime/session.ts';

interface DeclaredInput {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}

/** A trained model on a device: predicts noise, velocity or the clean sample, whatever it was trained for. */
export class ModelSession {
  private constructor(
    private readonly session: Session,
    private readonly inputs: DiffusionInputs<DeclaredInput>,
    /** The parsed `unet/config.json`. */
    readonly config: Readonly<Record<string, unknown>>,
    /** Shape of one sample without the batch axis. */
    readonly sampleShape: readonly number[],
  ) {}

  /**
   * @param onnx the model's bytes, or the path of its file where it keeps weights in files beside it.
   * @param sampleShape without the batch axis, or a function of the input that takes the samples.
   * @param names of the inputs, where names and shapes do not tell them apart.
   * @throws {OnnxFormatError} when onnxruntime cannot load the model, or it is no diffusion model of this sample shape.
   * @throws {DeviceError} when the device cannot run it.
   */
  static async create(
    onnx: Uint8Array | string,
    config: Readonly<Record<string, unknown>>,
    sampleShape: readonly number[] | ((sample: Pick<DeclaredInput, 'name' | 'shape'>) => readonly number[]),
    device: ConcreteDevice,
    names?: InputNames | undefined,
  ): Promise<ModelSession> {
    // A model takes its timestep as int64, which webgpu has not: the cpu casts this one number.
    const forbidFallback = device === 'webgpu' ? false : undefined;
    const session = await Session.create(onnx, device, { forbidFallback });
    try {
      const inputs = diffusionInputs(declaredInputs(session), names);
      const shape = typeof sampleShape === 'function' ? sampleShape(inputs.sample) : sampleShape;
      const model = new ModelSession(session, inputs, config, shape);
      await model.checkInterface();
      return model;
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  get device(): ConcreteDevice {
    return this.session.device;
  }

  /**
   * The model output, [count, ...sampleShape] as `sample`; twice the channels where the model learns its variance.
   *
   * @param sample row-major [count, ...sampleShape], in model units.
   * @param timestep one for all samples, or one for each; counted from 0. Between two whole timesteps a model that takes
   * integers is run at both, and its output interpolated.
   * @param classLabels one for each sample, where the model has classes.
   * @throws {InvalidArgumentError} when the lengths do not fit.
   * @throws {DisposedError} after `release`.
   */
  async predict(
    sample: Float32Array,
    timestep: number | readonly number[],
    classLabels?: readonly number[],
  ): Promise<Float32Array> {
    requireArray('the sample', sample);
    if (typeof timestep !== 'number') requireArray('the timestep', timestep);
    const size = elementCount(this.sampleShape);
    const count = sample.length / size;
    const timesteps = typeof timestep === 'number' ? [timestep] : timestep;
    if (count < 1 || !Number.isInteger(count))
      throw new InvalidArgumentError(
        `sample has ${sample.length} values, but must hold samples of ${size} values each`,
      );
    if (timesteps.length !== 1 && timesteps.length !== count)
      throw new InvalidArgumentError(
        `${timesteps.length} timesteps were given for ${count} samples: give one for all or one for each`,
      );
    const wrong = timesteps.find((t) => !(Number.isFinite(t) && t >= 0));
    if (wrong !== undefined)
      throw new InvalidArgumentError(`timestep ${wrong} must be a finite number, counted from 0`);
    if (this.takesWholeTimesteps && !timesteps.every(Number.isInteger))
      return this.interpolate(sample, timesteps, classLabels);
    const fixed = this.fixedBatch;
    if (fixed === undefined || fixed === count) return this.run(sample, timesteps, count, classLabels);
    return this.runInBatches(fixed, sample, timesteps, count, classLabels);
  }

  private async interpolate(
    sample: Float32Array,
    timesteps: readonly number[],
    classLabels: readonly number[] | undefined,
  ): Promise<Float32Array> {
    const below = await this.predict(sample, timesteps.map(Math.floor), classLabels);
    const above = await this.predict(sample, timesteps.map(Math.ceil), classLabels);
    const perTimestep = below.length / timesteps.length;
    return below.map((low, i) => {
      const timestep = timesteps[Math.floor(i / perTimestep)] as number;
      return low + (timestep - Math.floor(timestep)) * ((above[i] as number) - low);
    });
  }

  private async run(
    sample: Float32Array,
    timesteps: readonly number[],
    count: number,
    classLabels: readonly number[] | undefined,
  ): Promise<Float32Array> {
    const { sample: image, timestep, class_labels } = this.inputs;
    const feeds = {
      [image.name]: floatTensor(image, [count, ...this.sampleShape], sample),
      [timestep.name]: timestepTensor(timesteps, count, timestep, image.shape[0]),
      ...(class_labels ? { [class_labels.name]: labelTensor(classLabels, count, class_labels) } : {}),
    };
    return floatValues((await this.session.run(feeds))[this.outputName], this.outputName);
  }

  /** A model that was exported for a fixed batch takes that many at a time; the last are filled up with zeros. */
  private async runInBatches(
    size: number,
    sample: Float32Array,
    timesteps: readonly number[],
    count: number,
    classLabels: readonly number[] | undefined,
  ): Promise<Float32Array> {
    const length = sample.length / count;
    const parts: Float32Array[] = [];
    for (let first = 0; first < count; first += size) {
      const filled = new Float32Array(size * length);
      filled.set(sample.subarray(first * length, (first + size) * length));
      const ofBatch = (values: readonly number[]) =>
        Array.from({ length: size }, (_, i) => values[Math.min(first + i, count - 1)] ?? 0);
      const times = timesteps.length === 1 ? timesteps : ofBatch(timesteps);
      const output = await this.run(filled, times, size, classLabels && ofBatch(classLabels));
      parts.push(output.slice(0, (Math.min(size, count - first) * output.length) / size));
    }
    return concatenated(parts);
  }

  /** `out_sample`, or else the first: exporters may write further outputs. */
  private get outputName(): string {
    const { outputNames } = this.session;
    return outputNames.includes('out_sample') ? 'out_sample' : (outputNames[0] ?? 'out_sample');
  }

  private get takesWholeTimesteps(): boolean {
    const { dtype } = this.inputs.timestep;
    return dtype === 'int64' || dtype === 'int32';
  }

  /** The length of the batch axis, where the model was exported for one length only. */
  private get fixedBatch(): number | undefined {
    const [batch] = this.inputs.sample.shape;
    return typeof batch === 'number' && batch > 0 ? batch : undefined;
  }

  /** Whether samples go in as float32, so that nothing is rounded on the way. */
  get takesFloat32(): boolean {
    return this.inputs.sample.dtype === 'float32';
  }

  /** Whether the model takes class labels. */
  get isClassConditional(): boolean {
    return this.inputs.class_labels !== undefined;
  }

  /** @throws {DisposedError} after `release`. */
  checkUsable(): void {
    this.session.checkUsable();
  }

  /** Frees the model. A second call does nothing. */
  release(): Promise<void> {
    return this.session.release();
  }

  private async checkInterface(): Promise<void> {
    const size = elementCount(this.sampleShape);
    const output = await this.predict(new Float32Array(size), 0, [0]).catch((error: unknown) => {
      if (!(error instanceof RuntimeExecutionError)) throw error;
      throw new OnnxFormatError(
        `the ONNX model does not take samples of shape [${this.sampleShape.join(', ')}], which its config.json promises: ${error.message}`,
        { cause: error },
      );
    });
    if (output.length !== size && output.length !== 2 * size)
      throw new OnnxFormatError(
        `the ONNX model gives ${output.length} values for a sample of ${size}: it does not fit its config.json`,
      );
  }
}

function declaredInputs(session: Session): DeclaredInput[] {
  return session.inputNames.map((name) => ({ name, dtype: '', shape: [], ...session.inputType(name) }));
}

/** Values of float32 in the dtype that the model declares. */
function floatTensor({ name, dtype }: DeclaredInput, shape: readonly number[], values: Float32Array): RuntimeTensor {
  if (dtype === 'float32') return hostTensor('float32', shape, values);
  if (dtype === 'float16') return hostTensor('float16', shape, encodeFloat16(values));
  if (dtype === 'float64') return hostTensor('float64', shape, Float64Array.from(values));
  throw new OnnxFormatError(
    `the input '${name}' is of type ${dtype || 'unknown'}; samples are float32, float16 or float64`,
  );
}

/** An output of any float type as float32. */
function floatValues(tensor: RuntimeTensor | undefined, name: string): Float32Array {
  const { data, type } = tensor ?? {};
  if (data instanceof Float32Array) return data;
  if (data instanceof Float64Array) return Float32Array.from(data);
  // A Uint16Array, or where JavaScript has it a Float16Array.
  if (type === 'float16' && ArrayBuffer.isView(data)) {
    const bits = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
    return decodeFloat16(bits, new Float32Array(bits.length));
  }
  throw new OnnxFormatError(`the output '${name}' is ${type ?? 'missing'}; float32, float16 and float64 are supported`);
}

/** Open axes of timesteps that take one timestep for the whole batch: this package's exports, and optimum's. */
const BROADCASTING_AXES = new Set<number | string>(['timestep_count', 'steps']);

/**
 * Timesteps in the rank and dtype that the model declares: exporters write a scalar, one for the batch, or one for each
 * sample, as [batch] or [batch, 1], as integers or floats.
 */
function timestepTensor(
  timesteps: readonly number[],
  count: number,
  { name, dtype, shape }: DeclaredInput,
  batchAxis: number | string | undefined,
): RuntimeTensor {
  const [length = 1] = shape;
  if (shape.length === 0 && timesteps.length > 1)
    throw new InvalidArgumentError(
      `the model takes one timestep, '${name}', and ${timesteps.length} were given: give one for all samples`,
    );
  const isOpen = typeof length === 'string' || length <= 0;
  const perSample = length === count || (isOpen && (length === batchAxis || !BROADCASTING_AXES.has(length)));
  const repeated = perSample && timesteps.length === 1 ? count : 0;
  const values = repeated > 1 ? Array<number>(repeated).fill(timesteps[0] ?? 0) : timesteps;
  const dims = [[], [values.length], [values.length, 1]][shape.length] ?? [];
  if (dtype === 'int64') return hostTensor('int64', dims, BigInt64Array.from(values, BigInt));
  if (dtype === 'int32') return hostTensor('int32', dims, Int32Array.from(values));
  if (dtype === 'float32') return hostTensor('float32', dims, Float32Array.from(values));
  if (dtype === 'float64') return hostTensor('float64', dims, Float64Array.from(values));
  if (dtype === 'float16') return hostTensor('float16', dims, encodeFloat16(Float32Array.from(values)));
  throw new OnnxFormatError(
    `the model takes timesteps of type ${dtype || 'unknown'}; int64, int32, float32, float16 and float64 are supported`,
  );
}

function labelTensor(labels: readonly number[] | undefined, count: number, { dtype }: DeclaredInput): RuntimeTensor {
  if (labels?.length !== count)
    throw new InvalidArgumentError(
      `the model is class-conditional: give ${count} class labels, one for each sample, not ${labels?.length ?? 'none'}`,
    );
  if (dtype === 'int32') return hostTensor('int32', [count], Int32Array.from(labels));
  return hostTensor('int64', [count], BigInt64Array.from(labels, BigInt));
}
