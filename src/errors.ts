/**
 * Every error this package throws on purpose is an `IsoDiffusionError`. A caller can tell a mistake in its input from a
 * defect by it. Messages name the offending value, where it was found and what to do about it.
 */
export class IsoDiffusionError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** An option or argument is of the wrong type, out of range or contradicts another. */
export class InvalidArgumentError extends IsoDiffusionError {}

/** A graph cannot be built: an op was given wrong inputs, or shapes and dtypes do not fit. */
export class GraphError extends IsoDiffusionError {}

/** The gradient of a graph cannot be built, for instance because an op has no gradient rule. */
export class GradientError extends GraphError {}

/** A device is not present, not usable, or unknown. */
export class DeviceError extends IsoDiffusionError {}

/** A training step leaves the state as it was, so that training would have no effect: a defect of onnxruntime there. */
export class StateNotUpdatedError extends DeviceError {}

/** A data set or a file of points is unreadable, empty or holds values that are not finite. */
export class DatasetError extends IsoDiffusionError {}

/** A file is missing, truncated or malformed. The base of the errors of each file format. */
export class FileFormatError extends IsoDiffusionError {}

/** An ONNX file is truncated, malformed or uses what this package does not read. */
export class OnnxFormatError extends FileFormatError {}

/** A safetensors file is truncated or malformed. */
export class SafetensorsError extends FileFormatError {}

/** A file of PyTorch weights is truncated, malformed, or holds more than tensors and plain containers. */
export class TorchFileError extends FileFormatError {}

/** The weights of a feature extractor are not there; the message says which file to fetch from where. */
export class ExtractorNotFoundError extends IsoDiffusionError {}

/** The weights of a feature extractor have missing, unknown or mis-shaped tensors; the message lists them. */
export class ExtractorWeightsError extends FileFormatError {}

/** A bundler separated the code of this package from files that it opens; the message says how to ship them. */
export class BundleError extends IsoDiffusionError {}

/** A JSON or YAML configuration is malformed or has unknown or wrong values. */
export class ConfigError extends FileFormatError {}

/** A checkpoint is incomplete, damaged or was written by a different run. */
export class CheckpointError extends FileFormatError {}

/** Weights that were to be saved are NaN or infinite. */
export class NonFiniteWeightsError extends IsoDiffusionError {}

/** The loss or the weights became NaN or infinite. `step` is the step at which they did. */
export class NonFiniteLossError extends IsoDiffusionError {
  constructor(
    message: string,
    readonly step: number,
  ) {
    super(message);
  }
}

/** A model or a scheduler gave NaN or infinity while samples were drawn. */
export class NonFiniteSampleError extends IsoDiffusionError {
  constructor(
    message: string,
    /** The step, from 1 to the number of steps. */
    readonly step: number,
  ) {
    super(message);
  }
}

/** A pipeline or a feature extractor was used after its `dispose()`. */
export class DisposedError extends IsoDiffusionError {}

/** The Hugging Face Hub refused, could not be reached, or sent something other than it listed. */
export class HubError extends IsoDiffusionError {
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
export class DownloadError extends DatasetError {}

/** An evaluation during training failed. */
export class SnapshotEvaluationError extends IsoDiffusionError {}

/** What was asked for needs Node: files by path, other processes, or a library that browsers cannot run. */
export class NotInBrowserError extends IsoDiffusionError {}

/** Whether a caught value is an error; also one of another realm, as Node's own errors are in a test of Jest. */
export function isError(cause: unknown): cause is Error {
  return cause instanceof Error || Object.prototype.toString.call(cause) === '[object Error]';
}

/** What a caught value says: the message of an error, or the value as text. */
export function errorText(cause: unknown): string {
  return isError(cause) ? cause.message : String(cause);
}
