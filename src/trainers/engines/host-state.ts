import { planFlatBuckets } from '../../graph/flat-vectors.ts';
import type { AdamSettings, UpdateScalars } from '../../graph/optimizer.ts';
import { elementCount } from '../../graph/types.ts';
import type { ParameterSpec } from '../../models/model.ts';
import type { FeatureMaps } from '../../nn/layouts.ts';
import { STATE_KINDS, type StateKind } from '../step/training-graph.ts';
import { HostStretch, type StretchKinds } from './host-stretch.ts';
import { inFilterOrder, inStateOrder } from './parameter-order.ts';
import type { TrainingState } from './training-engine.ts';

interface Stretch {
  readonly specs: readonly ParameterSpec[];
  readonly offset: number;
  readonly vectors: HostStretch;
}

/** Where a parameter and its gradient of one batch lie. */
export interface HostParameter {
  readonly spec: ParameterSpec;
  readonly value: Float32Array;
  readonly gradient: Float32Array;
}

/**
 * The state of a run on the host, and its update: parameters, moments and average, filters in the order of `maps`; as
 * one stretch up to 4 GiB (some 200 million parameters), else as several.
 */
export class HostState {
  private readonly stretches: readonly Stretch[];
  private readonly length: number;
  /** How many read it in place now. */
  private readers = 0;

  /**
   * @param initial in the order of the state dict; copied. A kind that is missing starts at zero.
   * @param maxLength the most parameters of a stretch.
   * @throws {DeviceError} when there is no memory for it.
   * @throws {GraphError} when one parameter alone does not fit a stretch.
   */
  constructor(
    private readonly specs: readonly ParameterSpec[],
    private readonly maps: FeatureMaps,
    kinds: StretchKinds,
    initial: TrainingState,
    maxLength: number = HostStretch.maxLength(kinds),
  ) {
    let first = 0;
    let offset = 0;
    this.stretches = planFlatBuckets(specs, maxLength).map(({ entries, length }) => {
      const stretch = {
        specs: specs.slice(first, first + entries.length),
        offset,
        vectors: new HostStretch(length, kinds),
      };
      first += entries.length;
      offset += length;
      return stretch;
    });
    this.length = offset;
    for (const kind of STATE_KINDS) {
      const whole = initial.get(kind);
      if (whole) this.load(kind, whole);
    }
  }

  parameters(): HostParameter[] {
    return this.stretches.flatMap(({ specs, vectors }) => {
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

  /** Adds the batch's gradient to that of the step, which the `first` batch begins; not needed for one batch a step. */
  addGradient(first: boolean): void {
    for (const { vectors } of this.stretches) vectors.addGradient(first);
  }

  /** The Euclidean norm of the step's gradient. */
  gradientNorm(): number {
    return Math.sqrt(this.stretches.reduce((sum, { vectors }) => sum + vectors.squaredNorm(), 0));
  }

  update(settings: AdamSettings, scalars: UpdateScalars): void {
    for (const { vectors } of this.stretches) vectors.update(settings, scalars);
  }

  /** A copy in the order of the state dict. */
  copy(): Map<StateKind, Float32Array> {
    const copies = new Map<StateKind, Float32Array>();
    for (const { offset, vectors } of this.stretches) {
      for (const kind of STATE_KINDS) {
        const vector = vectors[kind];
        if (!vector) continue;
        const whole = copies.get(kind) ?? new Float32Array(this.length);
        whole.set(vector, offset);
        copies.set(kind, whole);
      }
    }
    if (this.readers === 0) for (const whole of copies.values()) inStateOrder(whole, this.specs, this.maps);
    return copies;
  }

  /** The state in the order of the state dict, put in order in place, for as long as `use` reads it. */
  async lend<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    const [stretch, ...others] = this.stretches;
    // Several stretches cannot be shown as one vector.
    if (!stretch || others.length > 0) return use(this.copy());
    const lent = new Map<StateKind, Float32Array>();
    for (const kind of STATE_KINDS) {
      const vector = stretch.vectors[kind];
      if (vector) lent.set(kind, vector);
    }
    if (this.readers++ === 0) for (const vector of lent.values()) inStateOrder(vector, this.specs, this.maps);
    try {
      return await use(lent);
    } finally {
      if (--this.readers === 0)
        for (const vector of lent.values()) inFilterOrder(vector, this.specs, this.maps);
    }
  }

  private load(kind: StateKind, whole: Float32Array): void {
    for (const { specs, offset, vectors } of this.stretches) {
      const vector = vectors[kind];
      if (!vector) continue;
      vector.set(whole.subarray(offset, offset + vector.length));
      inFilterOrder(vector, specs, this.maps);
    }
  }
}
