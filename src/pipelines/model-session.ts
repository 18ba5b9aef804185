import { requireArray } from '../arguments.ts';
import { InvalidArgumentError, OnnxFormatError, RuntimeExecutionError } from '../errors.ts';
import { concatenated, elementCount } from '../graph/types.ts';
import { type DiffusionInputs, diffusionInputs, type InputNames } from '../models/onnx/inputs.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import { type RuntimeTensor, Session, type SessionOptions } from '../runtime/session.ts';
import { type DeclaredInput, floatTensor, floatValues, labelTensor, timestepTensor } from './model-tensors.ts';

/** What one run of the model takes. */
interface Given {
  readonly sample: Float32Array;
  readonly timesteps: readonly number[];
  readonly classLabels: readonly number[] | undefined;
  readonly condition: Float32Array | undefined;
}

export interface ModelSessionOptions extends Pick<SessionOptions, 'plansMemory' | 'weightsFolder'> {
  /** The names of the inputs. Default: names and shapes tell them apart. */
  readonly input_names?: InputNames | undefined;
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
   * @throws {OnnxFormatError} when onnxruntime cannot load the model, or it is no diffusion model of this sample shape.
   * @throws {DeviceError} when the device cannot run it.
   */
  static async create(
    onnx: Uint8Array | string,
    config: Readonly<Record<string, unknown>>,
    sampleShape: readonly number[] | ((sample: Pick<DeclaredInput, 'name' | 'shape'>) => readonly number[]),
    device: ConcreteDevice,
    { input_names, ...options }: ModelSessionOptions = {},
  ): Promise<ModelSession> {
    // A model takes its timestep as int64, which webgpu has not: the cpu casts this one number.
    const forbidFallback = device === 'webgpu' ? false : undefined;
    const session = await Session.create(onnx, device, { ...options, forbidFallback });
    try {
      const inputs = diffusionInputs(declaredInputs(session), input_names);
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
   * @param classLabels one for each sample, where the model has classes; of vectors, one after another.
   * @param condition what the model is given beside the samples, row-major [count, ...conditionShape], where it takes that.
   * @throws {InvalidArgumentError} when the lengths do not fit.
   * @throws {DisposedError} after `release`.
   */
  async predict(
    sample: Float32Array,
    timestep: number | readonly number[],
    classLabels?: readonly number[],
    condition?: Float32Array,
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
      return this.interpolate(sample, timesteps, classLabels, condition);
    const fixed = this.fixedBatch;
    const given = { sample, timesteps, classLabels, condition };
    if (fixed === undefined || fixed === count) return this.run(given, count);
    return this.runInBatches(fixed, given, count);
  }

  private async interpolate(
    sample: Float32Array,
    timesteps: readonly number[],
    ...given: [classLabels: readonly number[] | undefined, condition: Float32Array | undefined]
  ): Promise<Float32Array> {
    const below = await this.predict(sample, timesteps.map(Math.floor), ...given);
    const above = await this.predict(sample, timesteps.map(Math.ceil), ...given);
    const perTimestep = below.length / timesteps.length;
    return below.map((low, i) => {
      const timestep = timesteps[Math.floor(i / perTimestep)] as number;
      return low + (timestep - Math.floor(timestep)) * ((above[i] as number) - low);
    });
  }

  private async run({ sample, timesteps, classLabels, condition }: Given, count: number): Promise<Float32Array> {
    const { sample: image, timestep, class_labels, condition: beside } = this.inputs;
    const feeds = {
      [image.name]: floatTensor(image, [count, ...this.sampleShape], sample),
      [timestep.name]: timestepTensor(timesteps, count, timestep, image.shape[0]),
      ...(class_labels ? { [class_labels.name]: labelTensor(classLabels, count, class_labels) } : {}),
      ...(beside ? { [beside.name]: this.conditionTensor(condition, count, beside) } : {}),
    };
    return floatValues((await this.session.run(feeds))[this.outputName], this.outputName);
  }

  private conditionTensor(condition: Float32Array | undefined, count: number, input: DeclaredInput): RuntimeTensor {
    const shape = [count, ...(this.conditionShape ?? [])];
    if (condition?.length === elementCount(shape)) return floatTensor(input, shape, condition);
    throw new InvalidArgumentError(
      `the model takes a condition beside the samples: give ${elementCount(shape)} values of the shape [${shape.join(', ')}], not ${condition?.length ?? 'none'}`,
    );
  }

  /** A model that was exported for a fixed batch takes that many at a time; the last are filled up with zeros. */
  private async runInBatches(
    size: number,
    { sample, timesteps, classLabels, condition }: Given,
    count: number,
  ): Promise<Float32Array> {
    const parts: Float32Array[] = [];
    for (let first = 0; first < count; first += size) {
      const filled = (values: Float32Array) => {
        const length = values.length / count;
        const rows = new Float32Array(size * length);
        rows.set(values.subarray(first * length, (first + size) * length));
        return rows;
      };
      const ofBatch = (values: readonly number[]) => {
        const length = values.length / count;
        return Array.from({ length: size }, (_, i) => Math.min(first + i, count - 1)).flatMap((row) =>
          values.slice(row * length, (row + 1) * length),
        );
      };
      const given = {
        sample: filled(sample),
        timesteps: timesteps.length === 1 ? timesteps : ofBatch(timesteps),
        classLabels: classLabels && ofBatch(classLabels),
        condition: condition && filled(condition),
      };
      const output = await this.run(given, size);
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

  /**
   * Shape of a class label of a model that takes float32: [] for a number, [length] for a vector. Undefined for a model whose
   * classes are numbered, and one without.
   */
  get labelShape(): readonly number[] | undefined {
    const { dtype, shape = [] } = this.inputs.class_labels ?? {};
    return dtype === undefined || dtype.startsWith('int') ? undefined : shape.slice(1).map(Number);
  }

  /** Shape of what the model is given beside a sample, [channels, height, width]; undefined where it takes nothing. */
  get conditionShape(): readonly number[] | undefined {
    return this.inputs.condition?.shape
      .slice(1)
      .map((length, axis) => (typeof length === 'number' && length > 0 ? length : (this.sampleShape[axis] ?? 1)));
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
    const labels = Array<number>(elementCount(this.labelShape ?? [])).fill(0);
    const condition = this.conditionShape && new Float32Array(elementCount(this.conditionShape));
    const output = await this.predict(new Float32Array(size), 0, labels, condition).catch((error: unknown) => {
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
