import { DeviceError, GraphError } from '../../errors.ts';
import type { FlatVector } from '../../graph/flat-vectors.ts';
import type { Value } from '../../graph/graph.ts';
import { MOMENT_KINDS, type OptimizerSettings, type UpdateScalars } from '../../graph/optimizer.ts';
import { differentiableAncestors, GraphInterpreter } from './graph-interpreter.ts';
import { disposeAll, type Tfjs, type TfTensor } from './tf-module.ts';
import { tfjsOptimizerStep } from './tfjs-optimizers.ts';

/** What is trained, as values of one graph. */
interface TrainedLoss {
  /** One for each entry of the flat vector, in its order. */
  readonly parameters: readonly Value[];
  /** One float. */
  readonly loss: Value;
  /** A vector of floats to report. */
  readonly terms: Value;
  /** A vector of floats that `means` gives; default none. */
  readonly means?: Value | undefined;
}

/** The state as flat vectors: the moments that the optimizer keeps, and an average where there is one. */
interface FlatState<T> {
  readonly parameters: T;
  readonly first_moment: T | undefined;
  readonly second_moment: T | undefined;
  readonly ema: T | undefined;
}

/**
 * Gradients by tfjs and the optimizer's state on tfjs's backend, where it stays between steps. As in our own graphs,
 * each kind of state is one vector: an update is about a dozen kernels, not a dozen for each parameter.
 */
export class TfjsTrainingSession {
  /** The sums over the batches since the last update. */
  private gradient: TfTensor | undefined;
  private terms: TfTensor | undefined;

  private constructor(
    private readonly tf: Tfjs,
    private readonly interpreter: GraphInterpreter,
    private readonly measuring: GraphInterpreter | undefined,
    private readonly trained: TrainedLoss,
    private readonly flatVector: FlatVector,
    /** The indices of the parameters that have a gradient. */
    private readonly differentiable: readonly number[],
    private vectors: FlatState<TfTensor>,
  ) {}

  /**
   * @param initial vectors as long as the flat vector; they are copied.
   * @throws {GraphError} that lists every node of the graph that tfjs cannot compute.
   */
  static async create(
    tf: Tfjs,
    trained: TrainedLoss,
    flatVector: FlatVector,
    initial: FlatState<Float32Array>,
  ): Promise<TfjsTrainingSession> {
    await tf.ready();
    const ancestors = differentiableAncestors(trained.loss);
    const differentiable = trained.parameters.flatMap((value, index) => (ancestors.has(value) ? [index] : []));
    if (differentiable.length === 0) throw new GraphError('the loss depends on no parameter');
    const interpreter = GraphInterpreter.compile(tf, [trained.loss, trained.terms]);
    const measuring = trained.means && GraphInterpreter.compile(tf, [trained.means]);
    const { parameters, first_moment, second_moment, ema } = initial;
    // tfjs's cpu backend computes on the array it is given.
    const upload = (vector: Float32Array) => tf.tensor(vector.slice(), [flatVector.length], 'float32');
    return new TfjsTrainingSession(tf, interpreter, measuring, trained, flatVector, differentiable, {
      parameters: upload(parameters),
      first_moment: first_moment && upload(first_moment),
      second_moment: second_moment && upload(second_moment),
      ema: ema && upload(ema),
    });
  }

  /**
   * Adds the gradients and the terms of one batch.
   *
   * @param feeds the graph's inputs other than the parameters; they are disposed of.
   * @throws {DeviceError} when the backend lacks a kernel.
   */
  accumulate(feeds: ReadonlyMap<Value, TfTensor>): void {
    const { tf } = this;
    try {
      const [gradient, terms] = tf.tidy(() => {
        const batch = this.differentiate(feeds);
        if (!this.gradient || !this.terms) return [batch.gradient, batch.terms];
        const sums = [tf.add(this.gradient, batch.gradient), tf.add(this.terms, batch.terms)];
        batch.terms.dispose();
        return sums;
      });
      this.clear();
      [this.gradient, this.terms] = [gradient, terms];
    } catch (error) {
      throw missingKernel(error) ?? error;
    } finally {
      disposeAll(feeds.values());
    }
  }

  /**
   * The means of one batch, by a forward pass.
   *
   * @param feeds as for `accumulate`; they are disposed of.
   */
  async means(feeds: ReadonlyMap<Value, TfTensor>): Promise<Float32Array> {
    const { tf, trained, measuring } = this;
    try {
      const [means] = tf.tidy(() => {
        const values = new Map([...feeds, ...pairs(trained.parameters, this.parameterTensors())]);
        return measuring?.run(values) ?? [];
      });
      const found = means ? await read(means) : new Float32Array();
      means?.dispose();
      return found;
    } catch (error) {
      throw missingKernel(error) ?? error;
    } finally {
      disposeAll(feeds.values());
    }
  }

  /** The sums since the last update: of the terms, and of the squares of the gradient. */
  async totals(): Promise<{ terms: Float32Array; squaredNorm: number }> {
    const { tf, gradient, terms } = this;
    if (!gradient || !terms) throw new GraphError('no batch was accumulated');
    const both = tf.tidy(() => tf.concat([terms, tf.reshape(tf.sum(tf.square(gradient)), [1])], 0));
    const values = await read(both);
    both.dispose();
    return { terms: values.slice(0, -1), squaredNorm: values.at(-1) ?? Number.NaN };
  }

  /** `optimizerStep` and `emaStep` of src/graph/optimizer.ts with the accumulated gradient, and a new sum. */
  update(settings: OptimizerSettings, update: UpdateScalars): void {
    const { tf, gradient, vectors } = this;
    if (!gradient) throw new GraphError('no batch was accumulated');
    const kept = MOMENT_KINDS.filter((kind) => vectors[kind] !== undefined);
    const next = tf.tidy(() => {
      const before = { parameters: vectors.parameters, moments: kept.flatMap((kind) => vectors[kind] ?? []) };
      const { parameters, moments } = tfjsOptimizerStep(tf, before, gradient, update, settings);
      const { ema } = vectors;
      const average = ema ? [tf.sub(ema, tf.mul(tf.sub(ema, parameters), update.emaRate))] : [];
      return [parameters, ...moments, ...average];
    });
    this.clear();
    disposeAll(present(vectors));
    const [parameters, ...others] = next as [TfTensor, ...TfTensor[]];
    const moment = (kind: (typeof MOMENT_KINDS)[number]) => others[kept.indexOf(kind)];
    this.vectors = {
      parameters,
      first_moment: moment('first_moment'),
      second_moment: moment('second_moment'),
      ema: others[kept.length],
    };
  }

  /** A copy of the state on the host. */
  async state(): Promise<FlatState<Float32Array>> {
    const { parameters, first_moment, second_moment, ema } = this.vectors;
    return {
      parameters: await read(parameters),
      first_moment: first_moment && (await read(first_moment)),
      second_moment: second_moment && (await read(second_moment)),
      ema: ema && (await read(ema)),
    };
  }

  /** Forgets the batches since the last update. */
  clear(): void {
    this.gradient?.dispose();
    this.terms?.dispose();
    this.gradient = undefined;
    this.terms = undefined;
  }

  release(): void {
    this.clear();
    this.interpreter.dispose();
    this.measuring?.dispose();
    disposeAll(present(this.vectors));
  }

  /** The flat gradient of one batch, and its terms, which the caller has to dispose of. */
  private differentiate(feeds: ReadonlyMap<Value, TfTensor>): { gradient: TfTensor; terms: TfTensor } {
    const { tf, trained, flatVector, differentiable } = this;
    const pieces = this.parameterTensors();
    const pick = <T>(all: readonly T[]) => differentiable.map((index) => all[index] as T);
    const fixed = pairs(trained.parameters, pieces);
    const reported: TfTensor[] = [];
    const { grads } = tf.valueAndGrads((...varied) => {
      const values = new Map([...feeds, ...fixed, ...pairs(pick(trained.parameters), varied)]);
      const [loss, terms] = this.interpreter.run(values) as [TfTensor, TfTensor];
      reported.push(tf.keep(terms));
      return tf.reshape(loss, []);
    })(pick(pieces));
    const found = new Map(pairs(differentiable, grads));
    const flat = flatVector.entries.map(({ length }, index) => {
      const gradient = found.get(index);
      return gradient ? tf.reshape(gradient, [length]) : tf.zeros([length]);
    });
    return { gradient: tf.concat(flat, 0), terms: reported[0] as TfTensor };
  }

  /** The parameters cut from their vector. */
  private parameterTensors(): TfTensor[] {
    const { tf, flatVector, vectors } = this;
    const lengths = flatVector.entries.map(({ length }) => length);
    return tf
      .split(vectors.parameters, lengths, 0)
      .map((piece, index) => tf.reshape(piece, [...(flatVector.entries[index]?.shape ?? [])]));
  }
}

function pairs<K>(keys: readonly K[], tensors: readonly TfTensor[]): [K, TfTensor][] {
  return keys.map((key, index) => [key, tensors[index] as TfTensor]);
}

function present(state: FlatState<TfTensor>): TfTensor[] {
  return Object.values(state).filter((vector) => vector !== undefined);
}

/** A copy: the cpu backend hands out the array that it computes on. */
async function read(tensor: TfTensor): Promise<Float32Array> {
  const values = await tensor.data();
  if (values instanceof Float32Array) return values.slice();
  throw new GraphError(`a tensor of float32 was expected from tfjs, but it is ${tensor.dtype}`);
}

function missingKernel(error: unknown): DeviceError | undefined {
  const message = error instanceof Error ? error.message : '';
  const [, kernel, backend] = /Kernel '(\w+)' not registered for backend '(\w+)'/.exec(message) ?? [];
  if (!kernel) return undefined;
  return new DeviceError(
    `the tfjs backend '${backend}' has no kernel '${kernel}', which training this model needs: use tfjs-node, tfjs-node-gpu, webgpu, webgl or cpu`,
    { cause: error },
  );
}
