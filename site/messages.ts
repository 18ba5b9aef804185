/** A set of points to train on, raw. */
export interface PointData {
  readonly name: string;
  /** x and y of one point after another. */
  readonly data: Float64Array;
}

/** What decides the numbers of a training beside the data. */
export interface TrainingSetup {
  readonly seed: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly lambda: number;
  /** Whether lambda may change while the run lasts; else it is a constant, and 0 is the plain loss. */
  readonly lambdaChanges: boolean;
}

/** What a run of points is. Equal runs give equal numbers. */
export interface RunSetup extends TrainingSetup {
  readonly points: PointData;
}

/** What changes while a run lasts; what is left out stays. */
export interface Changes {
  readonly lambda?: number;
  readonly learningRate?: number;
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

/** Commands by name, each with what it is given and what it answers. */
export type CommandTable = Readonly<Record<string, { readonly given: unknown; readonly answer: unknown }>>;

/** What a worker with a model of points can be asked. */
export type Commands = {
  /** Begins a run, in place of the one before. Answers with the points as the model sees them. */
  begin: { given: RunSetup; answer: { readonly real: Float32Array } };
  /** Takes steps, at most a chunk. Answers with none when the run has ended. */
  train: {
    given: { readonly steps: number };
    answer: { readonly rows: readonly Row[]; readonly learningRate: number };
  };
  /** From the next step on. */
  change: { given: Changes; answer: null };
  draw: { given: SamplingSetup; answer: Float32Array };
  measure: { given: SamplingSetup; answer: { readonly quality: Quality; readonly points: Float32Array } };
  reverse: { given: SamplingSetup; answer: Frames };
  forward: { given: { readonly count: number }; answer: Frames };
  isotropy: { given: Record<string, never>; answer: IsotropyByTime };
  /** The trained model as a file. */
  save: { given: { readonly format: 'onnx' | 'zip' }; answer: Uint8Array<ArrayBuffer> };
  /** Weights from a file that `save` gave, or another ONNX file of this network. */
  load: { given: { readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }; answer: null };
};

/** Images to learn, in [0, 255]. */
export interface ImageData8 {
  readonly name: string;
  /** [count, side, side, channels]. */
  readonly pixels: Uint8Array;
  readonly side: number;
  readonly channels: 1 | 3;
}

/** What a worker with a model of images can be asked. */
export type ImageCommands = {
  /** Answers with where the model runs. */
  begin: { given: TrainingSetup & { readonly images: ImageData8 }; answer: 'cpu' | 'webgpu' };
  train: Commands['train'];
  change: Commands['change'];
  /** Images [count, side, side, channels] in [0, 255], from the noise of the images `first`, `first + 1` and so on. */
  draw: {
    given: { readonly first: number; readonly count: number; readonly steps: number };
    answer: Uint8ClampedArray<ArrayBuffer>;
  };
};

export interface Request {
  readonly id: number;
  readonly name: string;
  readonly given: unknown;
}

export type Reply = { readonly id: number } & ({ readonly answer: unknown } | { readonly error: string });
