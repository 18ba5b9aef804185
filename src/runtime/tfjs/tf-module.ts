import { InvalidArgumentError } from '../../errors.ts';

/**
 * The module of `@tensorflow/tfjs`, `@tensorflow/tfjs-node` or `@tensorflow/tfjs-node-gpu`, 4.22 or later, by the
 * functions that are called. This package's types do not name tfjs's own, because tfjs need not be installed.
 */
export type TfjsModule = { readonly [name in keyof Tfjs]: (...args: never[]) => unknown };

/** @throws {InvalidArgumentError} when it is another module, or wrapped in one. */
export function asTfjs(module: TfjsModule | undefined): Tfjs {
  const missing = (['valueAndGrads', 'customGrad', 'tidy', 'tensor', 'conv2d', 'getBackend'] as const).filter(
    (name) => typeof module?.[name] !== 'function',
  );
  if (module && missing.length === 0) return module as unknown as Tfjs;
  throw new InvalidArgumentError(
    `engine 'tfjs' needs the module of @tensorflow/tfjs, @tensorflow/tfjs-node or @tensorflow/tfjs-node-gpu as tf; ${module ? `this one has no ${missing.join(', ')}` : 'none is given'}`,
  );
}

type Unary =
  | 'neg'
  | 'exp'
  | 'log'
  | 'sqrt'
  | 'square'
  | 'reciprocal'
  | 'sin'
  | 'cos'
  | 'tanh'
  | 'sigmoid'
  | 'relu'
  | 'softplus'
  | 'erf'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'sign'
  | 'softmax';
type Binary = 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'greater' | 'less' | 'equal';
type Reduction = 'sum' | 'mean' | 'max' | 'min';
type Pool = 'avgPool' | 'maxPool';
type Size = [number, number];

/** The part of tfjs that is used, with its parameters narrowed to how it is used. */
export interface Tfjs
  extends Record<Unary, (x: TfTensor) => TfTensor>,
    Record<Binary, (a: TfTensor, b: TfTensor | number) => TfTensor>,
    Record<Reduction, (x: TfTensor, axes?: number[], keepDims?: boolean) => TfTensor>,
    Record<Pool, (x: TfTensor, window: Size, strides: Size, pad: 'valid') => TfTensor> {
  ready(): Promise<void>;
  getBackend(): string;
  /** Runs `fn` and frees every tensor made in it, except those it returns. */
  tidy<T extends TfTensor | TfTensor[]>(fn: () => T): T;
  keep(x: TfTensor): TfTensor;
  /** Another tensor of the same data. */
  clone(x: TfTensor): TfTensor;
  valueAndGrads(f: (...args: TfTensor[]) => TfTensor): (args: TfTensor[]) => { value: TfTensor; grads: TfTensor[] };
  customGrad(f: () => { value: TfTensor; gradFunc: (dy: TfTensor) => TfTensor[] }): (...inputs: TfTensor[]) => TfTensor;
  /** Of one input; what is saved is there when the gradient is computed. */
  customGrad(
    f: (
      x: TfTensor,
      save: (tensors: TfTensor[]) => void,
    ) => { value: TfTensor; gradFunc: (dy: TfTensor, saved: TfTensor[]) => TfTensor[] },
  ): (x: TfTensor) => TfTensor;

  tensor(values: Float32Array | Int32Array | Uint8Array, shape: number[], dtype: TfDType): TfTensor;
  zeros(shape: number[]): TfTensor;
  cast(x: TfTensor, dtype: TfDType): TfTensor;
  leakyRelu(x: TfTensor, alpha: number): TfTensor;
  where(condition: TfTensor, a: TfTensor, b: TfTensor): TfTensor;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  conv2d(x: TfTensor, filter: TfTensor, strides: [number, number], pad: 'valid' | 'same'): TfTensor;
  conv2dTranspose(
    x: TfTensor,
    filter: TfTensor,
    outputShape: [number, number, number, number],
    strides: [number, number],
    pad: 'valid',
  ): TfTensor;
  reshape(x: TfTensor, shape: number[]): TfTensor;
  broadcastTo(x: TfTensor, shape: number[]): TfTensor;
  transpose(x: TfTensor, perm: number[]): TfTensor;
  concat(tensors: TfTensor[], axis: number): TfTensor;
  split(x: TfTensor, sizes: number[], axis: number): TfTensor[];
  slice(x: TfTensor, begin: number[], size: number[]): TfTensor;
  pad(x: TfTensor, paddings: [number, number][], value: number): TfTensor;
  gather(x: TfTensor, indices: TfTensor, axis: number): TfTensor;
  /** The sums of the rows that have the same of `count` numbers. */
  unsortedSegmentSum(x: TfTensor, numbers: TfTensor, count: number): TfTensor;
  argMin(x: TfTensor, axis: number): TfTensor;
}

/** The dtypes of tfjs that a graph is computed in; ONNX's int64 becomes int32. */
export type TfDType = 'float32' | 'int32' | 'bool';

export interface TfTensor {
  readonly shape: number[];
  readonly dtype: string;
  data(): Promise<Float32Array | Int32Array | Uint8Array | string[]>;
  dispose(): void;
}

export function disposeAll(tensors: Iterable<TfTensor>): void {
  for (const tensor of tensors) tensor.dispose();
}
