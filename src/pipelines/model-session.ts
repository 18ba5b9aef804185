import { InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { concatenated, elementCount } from '../graph/types.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import { float32Data, hostTensor, RuntimeExecutionError, Session } from '../runtime/session.ts';

/** A trained model on a device: predicts noise, velocity or the clean sample, whatever it was trained for. */
export class ModelSession {
  private constructor(
    private readonly session: Session,
    /** The parsed `unet/config.json`. */
    readonly config: Readonly<Record<string, unknown>>,
    /** Shape of one sample without the batch axis. */
    readonly sampleShape: readonly number[],
  ) {}

  /**
   * @param onnx the model's bytes, or the path of its file where it keeps weights in files beside it.
   * @param sampleShape without the batch axis, or a function of what the model declares for its input `sample`.
   * @throws {OnnxFormatError} when onnxruntime cannot load the model, or it is no diffusion model of this sample shape.
   * @throws {DeviceError} when the device cannot run it.
   */
  static async create(
    onnx: Uint8Array | string,
    config: Readonly<Record<string, unknown>>,
    sampleShape: readonly number[] | ((declared: readonly (number | string)[]) => readonly number[]),
    device: ConcreteDevice,
  ): Promise<ModelSession> {
    const session = await Session.create(onnx, device);
    try {
      const shape =
        typeof sampleShape === 'function' ? sampleShape(session.inputType('sample')?.shape ?? []) : sampleShape;
      const model = new ModelSession(session, config, shape);
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
    const [batchAxis] = this.session.inputType('sample')?.shape ?? [];
    const outputs = await this.session.run({
      sample: hostTensor('float32', [count, ...this.sampleShape], sample),
      timestep: timestepTensor(timesteps, count, this.session.inputType('timestep'), batchAxis),
      ...(this.isClassConditional ? { class_labels: labelTensor(classLabels, count) } : {}),
    });
    return float32Data(outputs[this.outputName], this.outputName);
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
    const { dtype = 'int64' } = this.session.inputType('timestep') ?? {};
    return dtype === 'int64' || dtype === 'int32';
  }

  /** The length of the batch axis, where the model was exported for one length only. */
  private get fixedBatch(): number | undefined {
    const [batch] = this.session.inputType('sample')?.shape ?? [];
    return typeof batch === 'number' && batch > 0 ? batch : undefined;
  }

  /** Whether the model takes class labels. */
  get isClassConditional(): boolean {
    return this.session.inputNames.includes('class_labels');
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
    const { inputNames, outputNames } = this.session;
    const fits =
      inputNames.length === (this.isClassConditional ? 3 : 2) &&
      ['sample', 'timestep'].every((name) => inputNames.includes(name)) &&
      outputNames.length > 0;
    if (!fits)
      throw new OnnxFormatError(
        `the ONNX model has the inputs ${inputNames.join(', ')} and the outputs ${outputNames.join(', ')}; a diffusion model has 'sample' and 'timestep', and an output`,
      );
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

/**
 * Timesteps in the rank and dtype that the model declares: exporters write a scalar, one for the batch, or one for each
 * sample, as integers or floats.
 */
function timestepTensor(
  timesteps: readonly number[],
  count: number,
  declared: { dtype: string; shape: readonly (number | string)[] } | undefined,
  batchAxis: number | string | undefined,
) {
  const { dtype = 'int64', shape = ['batch'] } = declared ?? {};
  if (shape.length > 1 || (shape.length === 0 && timesteps.length > 1))
    throw new InvalidArgumentError(
      `the model takes a timestep of shape [${shape.join(', ')}], and ${timesteps.length} were given: give one for all samples`,
    );
  const [length] = shape;
  // An axis of the batch's length, or of its name, wants a timestep for each sample.
  const perSample = length === count || (typeof length === 'string' && length !== '' && length === batchAxis);
  const repeated = perSample && timesteps.length === 1 ? count : 0;
  const values = repeated > 1 ? Array<number>(repeated).fill(timesteps[0] ?? 0) : timesteps;
  const dims = shape.length === 0 ? [] : [values.length];
  if (dtype === 'int64') return hostTensor('int64', dims, BigInt64Array.from(values, BigInt));
  if (dtype === 'int32') return hostTensor('int32', dims, Int32Array.from(values));
  if (dtype === 'float32') return hostTensor('float32', dims, Float32Array.from(values));
  if (dtype === 'float64') return hostTensor('float64', dims, Float64Array.from(values));
  throw new OnnxFormatError(
    `the model takes timesteps of type ${dtype}; int64, int32, float32 and float64 are supported`,
  );
}

function labelTensor(labels: readonly number[] | undefined, count: number) {
  if (labels?.length === count) return hostTensor('int64', [count], BigInt64Array.from(labels, BigInt));
  throw new InvalidArgumentError(
    `the model is class-conditional: give ${count} class labels, one for each sample, not ${labels?.length ?? 'none'}`,
  );
}
