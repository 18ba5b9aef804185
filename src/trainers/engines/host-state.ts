import { planFlatVectors } from '../../graph/flat-vectors.ts';
import type { OptimizerSettings, UpdateScalars } from '../../graph/optimizer.ts';
import { elementCount } from '../../graph/types.ts';
import { inverseAxes, type Layout, permuteAxes } from '../../nn/layout.ts';
import type { ParameterSpec } from '../../nn/parameters.ts';
import { shapeIn } from '../step/loss-graph.ts';
import { STATE_KINDS, type StateKind, type TrainingState } from '../step/update.ts';
import { ParameterMemory, type StateKinds } from './parameter-memory.ts';

/** Some of the parameters, which follow each other in the model, in one memory. */
interface Part {
  readonly specs: readonly ParameterSpec[];
  /** Parameters before it. */
  readonly offset: number;
  readonly vectors: ParameterMemory;
}

/** Where a parameter and its gradient of one batch lie. */
interface HostParameter {
  readonly spec: ParameterSpec;
  readonly value: Float32Array;
  readonly gradient: Float32Array;
}

/**
 * The state of a run on the host, and its update: parameters, moments and average, filters in the order of `layout`; as
 * one memory up to 4 GiB (some 200 million parameters), else as several.
 */
export class HostState {
  private readonly parts: readonly Part[];
  private readonly length: number;
  /** The number of callers that read it in place now. */
  private readers = 0;

  /**
   * @param initial in the order of the state dict; copied. A kind that is missing starts at zero.
   * @param maxLength the most parameters of one memory.
   * @throws {DeviceError} when there is no memory for it.
   * @throws {GraphError} when one parameter alone does not fit one memory.
   */
  constructor(
    private readonly specs: readonly ParameterSpec[],
    private readonly layout: Layout,
    kinds: StateKinds,
    initial: TrainingState,
    maxLength: number = ParameterMemory.maxLength(kinds),
  ) {
    let first = 0;
    let offset = 0;
    this.parts = planFlatVectors(specs, { maxElements: maxLength }).map(({ entries, length }) => {
      const part = {
        specs: specs.slice(first, first + entries.length),
        offset,
        vectors: new ParameterMemory(length, kinds),
      };
      first += entries.length;
      offset += length;
      return part;
    });
    this.length = offset;
    for (const kind of STATE_KINDS) {
      const whole = initial.get(kind);
      if (whole) this.load(kind, whole);
    }
  }

  parameters(): HostParameter[] {
    return this.parts.flatMap(({ specs, vectors }) => {
      let start = 0;
      return specs.map((spec) => {
        const end = start + elementCount(spec.shape);
        const value = vectors.parameters.subarray(start, end);
        const gradient = vectors.gradient.subarray(start, end);
        start = end;
        return { spec, value, gradient };
      });
    });
  }

  /** Adds the gradient of a batch to the others of the step, which batch 0 begins. */
  addGradient(batch: number): void {
    for (const { vectors } of this.parts) vectors.addGradient(batch);
  }

  /** The gradient of the step where it lies, once the last batch was added. */
  gradients(): Float32Array[] {
    return this.parts.map(({ vectors }) => vectors.total);
  }

  /** The Euclidean norm of the step's gradient. */
  gradientNorm(): number {
    return Math.sqrt(this.parts.reduce((sum, { vectors }) => sum + vectors.squaredNorm(), 0));
  }

  update(settings: OptimizerSettings, scalars: UpdateScalars): void {
    for (const { vectors } of this.parts) vectors.update(settings, scalars);
  }

  /** A copy in the order of the state dict. */
  copy(): Map<StateKind, Float32Array> {
    const copies = new Map<StateKind, Float32Array>();
    for (const { offset, vectors } of this.parts) {
      for (const kind of STATE_KINDS) {
        const vector = vectors[kind];
        if (!vector) continue;
        const whole = copies.get(kind) ?? new Float32Array(this.length);
        whole.set(vector, offset);
        copies.set(kind, whole);
      }
    }
    if (this.readers === 0) for (const whole of copies.values()) outOfLayout(whole, this.specs, this.layout);
    return copies;
  }

  /** The state in the order of the state dict, put in order in place, for as long as `use` reads it. */
  async withState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    const [part, ...others] = this.parts;
    // Several memories cannot be shown as one vector.
    if (!part || others.length > 0) return use(this.copy());
    const shown = new Map<StateKind, Float32Array>();
    for (const kind of STATE_KINDS) {
      const vector = part.vectors[kind];
      if (vector) shown.set(kind, vector);
    }
    if (this.readers++ === 0) for (const vector of shown.values()) outOfLayout(vector, this.specs, this.layout);
    try {
      return await use(shown);
    } finally {
      if (--this.readers === 0) for (const vector of shown.values()) intoLayout(vector, this.specs, this.layout);
    }
  }

  private load(kind: (typeof STATE_KINDS)[number], whole: Float32Array): void {
    for (const { specs, offset, vectors } of this.parts) {
      const vector = vectors[kind];
      if (!vector) continue;
      vector.set(whole.subarray(offset, offset + vector.length));
      intoLayout(vector, specs, this.layout);
    }
  }
}

/** Puts the filters in a vector of the parameters `specs` into the order of `layout`, in place. */
function intoLayout(vector: Float32Array, specs: readonly ParameterSpec[], layout: Layout): void {
  permuteFilters(vector, specs, ({ shape }) => [shape, layout.filterAxes]);
}

/** Puts them back into the order of the state dict, [out, in, height, width]. */
function outOfLayout(vector: Float32Array, specs: readonly ParameterSpec[], layout: Layout): void {
  permuteFilters(vector, specs, (spec) => [shapeIn(layout, spec), inverseAxes(layout.filterAxes)]);
}

function permuteFilters(
  vector: Float32Array,
  specs: readonly ParameterSpec[],
  how: (spec: ParameterSpec) => [shape: readonly number[], axes: readonly number[]],
): void {
  const lengths = specs.map(({ shape }) => elementCount(shape));
  const scratch = new Float32Array(Math.max(0, ...lengths));
  let offset = 0;
  specs.forEach((spec, i) => {
    const length = lengths[i] ?? 0;
    const part = vector.subarray(offset, offset + length);
    if (spec.isFilter) part.set(permuteAxes(part, ...how(spec), scratch.subarray(0, length)));
    offset += length;
  });
}
