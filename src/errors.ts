/**
 * Every error this package throws on purpose is an `IsoDiffusionError`. A caller can tell a mistake in its input from a
 * defect by it. Messages name the offending value, where it was found and what to do about it.
 */
export class IsoDiffusionError extends Error {
  /** Written out in every class: minifiers shorten the names of classes. */
  static override readonly name: string = 'IsoDiffusionError';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** An option or argument is of the wrong type, out of range or contradicts another. */
export class InvalidArgumentError extends IsoDiffusionError {
  static override readonly name: string = 'InvalidArgumentError';
}

/** A graph cannot be built: an op was given wrong inputs, or shapes and dtypes do not fit. */
export class GraphError extends IsoDiffusionError {
  static override readonly name: string = 'GraphError';
}

/** The gradient of a graph cannot be built, for instance because an op has no gradient rule. */
export class GradientError extends GraphError {
  static override readonly name: string = 'GradientError';
}

/** A device is not present, not usable, or unknown. */
export class DeviceError extends IsoDiffusionError {
  static override readonly name: string = 'DeviceError';
}

/** A training step leaves the state as it was, so that training would have no effect: a defect of onnxruntime there. */
export class StateNotUpdatedError extends DeviceError {
  static override readonly name: string = 'StateNotUpdatedError';
}

/** A data set or a file of points is unreadable, empty or holds values that are not finite. */
export class DatasetError extends IsoDiffusionError {
  static override readonly name: string = 'DatasetError';
}

/** A file is missing, truncated or malformed. The base of the errors of each file format. */
export class FileFormatError extends IsoDiffusionError {
  static override readonly name: string = 'FileFormatError';
}

/** An ONNX file is truncated, malformed or uses what this package does not read. */
export class OnnxFormatError extends FileFormatError {
  static override readonly name: string = 'OnnxFormatError';
}

/** A safetensors file is truncated or malformed. */
export class SafetensorsError extends FileFormatError {
  static override readonly name: string = 'SafetensorsError';
}

/** A file of PyTorch weights is truncated, malformed, or holds more than tensors and plain containers. */
export class TorchFileError extends FileFormatError {
  static override readonly name: string = 'TorchFileError';
}

/** The weights of a feature extractor are not there; the message says which file to fetch from where. */
export class ExtractorNotFoundError extends IsoDiffusionError {
  static override readonly name: string = 'ExtractorNotFoundError';
}

/** The weights of a feature extractor have missing, unknown or mis-shaped tensors; the message lists them. */
export class ExtractorWeightsError extends FileFormatError {
  static override readonly name: string = 'ExtractorWeightsError';
}

/** A bundler separated the code of this package from files that it opens; the message says how to ship them. */
export class BundleError extends IsoDiffusionError {
  static override readonly name: string = 'BundleError';
}

/** A JSON or YAML configuration is malformed or has unknown or wrong values. */
export class ConfigError extends FileFormatError {
  static override readonly name: string = 'ConfigError';
}

/** A checkpoint is incomplete, damaged or was written by a different run. */
export class CheckpointError extends FileFormatError {
  static override readonly name: string = 'CheckpointError';
}

/** Weights that were to be saved are NaN or infinite. */
export class NonFiniteWeightsError extends IsoDiffusionError {
  static override readonly name: string = 'NonFiniteWeightsError';
}

/** The processes of a run cannot work together: MPI is missing or failed, or they were started with different arguments. */
export class DistributedError extends IsoDiffusionError {
  static override readonly name: string = 'DistributedError';
}

/** A run of a sweep or of `reproduce`, which has a process of its own, ended without a result. */
export class JobFailedError extends IsoDiffusionError {
  static override readonly name: string = 'JobFailedError';
}

/** An ONNX Runtime session failed while it ran. */
export class RuntimeExecutionError extends IsoDiffusionError {
  static override readonly name: string = 'RuntimeExecutionError';
}

/** The loss or the weights became NaN or infinite. `step` is the step at which they did. */
export class NonFiniteLossError extends IsoDiffusionError {
  static override readonly name: string = 'NonFiniteLossError';

  constructor(
    message: string,
    /** The step, from 1. */
    readonly step: number,
  ) {
    super(message);
  }
}

/** A model or a scheduler gave NaN or infinity while samples were drawn. */
export class NonFiniteSampleError extends IsoDiffusionError {
  static override readonly name: string = 'NonFiniteSampleError';

  constructor(
    message: string,
    /** The step, from 1 to the number of steps. */
    readonly step: number,
  ) {
    super(message);
  }
}

/** A pipeline or a feature extractor was used after its `dispose()`. */
export class DisposedError extends IsoDiffusionError {
  static override readonly name: string = 'DisposedError';
}

/** The Hugging Face Hub refused, could not be reached, or sent something other than it listed. */
export class HubError extends IsoDiffusionError {
  static override readonly name: string = 'HubError';

  /** Whether there was no answer at all. */
  readonly unreachable: boolean;
  /** The HTTP status of the answer, where it was that which failed. */
  readonly status: number | undefined;

  constructor(
    message: string,
    {
      unreachable = false,
      status,
      ...options
    }: ErrorOptions & { unreachable?: boolean; status?: number | undefined } = {},
  ) {
    super(message, options);
    this.unreachable = unreachable;
    this.status = status;
  }
}

/** A data set could not be fetched; the message says from where to fetch it by other means, and where to put it. */
export class DownloadError extends DatasetError {
  static override readonly name: string = 'DownloadError';
}

/** An evaluation during training failed. */
export class SnapshotEvaluationError extends IsoDiffusionError {
  static override readonly name: string = 'SnapshotEvaluationError';
}

/** What was asked for needs Node: files by path, other processes, or a library that browsers cannot run. */
export class NotInBrowserError extends IsoDiffusionError {
  static override readonly name: string = 'NotInBrowserError';
}

/** Whether a caught value is an error; also one of another realm, as Node's own errors are in a test of Jest. */
export function isError(cause: unknown): cause is Error {
  return cause instanceof Error || Object.prototype.toString.call(cause) === '[object Error]';
}

/** What a caught value says: the message of an error, or the value as text. */
export function errorText(cause: unknown): string {
  return isError(cause) ? cause.message : String(cause);
}
