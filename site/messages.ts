/** A set of points to train on, raw. */
export interface PointData {
  readonly name: string;
  /** x and y of one point after another. */
  readonly data: Float64Array;
}

/** What a run is. Equal runs give equal numbers. */
export interface RunSetup {
  readonly points: PointData;
  readonly seed: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly lambda: number;
  /** Whether lambda may change while the run lasts; else it is a constant, and 0 is the plain loss. */
  readonly lambdaChanges: boolean;
}

/** One step of a run, for the curves. */
export interface Row {
  readonly step: number;
  readonly loss: number;
  readonly isotropy: number;
}

export interface Quality {
  readonly precision: number;
  readonly recall: number;
  readonly density: number;
  readonly coverage: number;
}

/** How points are drawn. */
export interface SamplingSetup {
  readonly count: number;
  /** Steps of DPM-Solver++. */
  readonly steps: number;
  /** Lambda that is put on when drawing, in place of training with it; undefined leaves the model as it is. */
  readonly lambda?: number | undefined;
}

/** One process as frames: the same points, one moment after another. */
export interface Frames {
  /** The timestep of each frame; -1 is the data. */
  readonly timesteps: readonly number[];
  /** x and y of all points, frame after frame. */
  readonly frames: readonly Float32Array[];
}

/** Mean squares per element by timestep; 1 is white noise. */
export interface IsotropyByTime {
  readonly timesteps: readonly number[];
  /** Of x_t. */
  readonly noisy: readonly number[];
  /** Of the predicted noise. */
  readonly predicted: readonly number[];
}

/** What a worker can be asked, each with what it is given and what it answers. */
export interface Commands {
  /** Begins a run, in place of the one before. Answers with the points as the model sees them. */
  begin: { given: RunSetup; answer: { readonly real: Float32Array } };
  /** Takes steps, at most a chunk. Answers with none when the run has ended. */
  train: {
    given: { readonly steps: number };
    answer: { readonly rows: readonly Row[]; readonly learningRate: number };
  };
  /** From the next step on. */
  change: { given: { readonly lambda?: number; readonly learningRate?: number }; answer: null };
  draw: { given: SamplingSetup; answer: Float32Array };
  measure: { given: SamplingSetup; answer: { readonly quality: Quality; readonly points: Float32Array } };
  reverse: { given: SamplingSetup; answer: Frames };
  forward: { given: { readonly count: number }; answer: Frames };
  isotropy: { given: Record<string, never>; answer: IsotropyByTime };
  /** The trained model as a file. */
  save: { given: { readonly format: 'onnx' | 'zip' }; answer: Uint8Array<ArrayBuffer> };
  /** Weights from a file that `save` gave, or another ONNX file of this network. */
  load: { given: { readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }; answer: null };
}

export type CommandName = keyof Commands;
export type Given<Name extends CommandName> = Commands[Name]['given'];
export type Answer<Name extends CommandName> = Commands[Name]['answer'];

export interface Request<Name extends CommandName = CommandName> {
  readonly id: number;
  readonly name: Name;
  readonly given: Given<Name>;
}

export type Reply = { readonly id: number } & ({ readonly answer: Answer<CommandName> } | { readonly error: string });
