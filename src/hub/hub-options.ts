/* How things are named and fetched on the Hugging Face Hub, whatever fetches them. */

/** Progress of a download, as transformers.js reports it: per file 'initiate', 'progress' many times, and 'done'. */
export interface DownloadProgress {
  /** 'initiate' before the file, 'progress' while it arrives, 'done' once it is complete. */
  readonly status: 'initiate' | 'progress' | 'done';
  /** The repository, `owner/name`; of a published feature extractor or a set of images from npm, its name. */
  readonly name: string;
  /** The file's path in the repository. */
  readonly file: string;
  /** Percent, 0 to 100, with 'progress'. */
  readonly progress?: number | undefined;
  /** Bytes that have arrived, with 'progress'. */
  readonly loaded?: number | undefined;
  /** Bytes of the whole file, with 'progress'. */
  readonly total?: number | undefined;
}

/** transformers.js's names of the types in which an ONNX file computes here. */
export type OnnxDtype = (typeof ONNX_DTYPES)[number];
export const ONNX_DTYPES = ['fp32', 'fp16'] as const;

/** Where and how a repository is downloaded. */
export interface HubOptions {
  /** A branch, tag or commit; default 'main'. */
  readonly revision?: string | undefined;
  /** The variant of the weights, e.g. 'fp16' for `diffusion_pytorch_model.fp16.safetensors`; default none. */
  readonly variant?: string | undefined;
  /** 'fp16' takes the ONNX file in half precision, `model_fp16.onnx`; default 'fp32', `model.onnx`. */
  readonly dtype?: OnnxDtype | null | undefined;
  /**
   * The folder of the cache; default `env.cacheDir` where that was set, or `$XDG_CACHE_HOME/iso-diffusion/hub`, or
   * `~/.cache/iso-diffusion/hub`.
   */
  readonly cache_dir?: string | null | undefined;
  /**
   * Whether to use what was downloaded before, without asking the Hub; default false. `HF_HUB_OFFLINE`,
   * `TRANSFORMERS_OFFLINE` and `env.allowRemoteModels = false` have the same effect.
   */
  readonly local_files_only?: boolean | undefined;
  /** Called before each file, repeatedly while it arrives, and once it is complete; default: nothing is called. */
  readonly progress_callback?: ((progress: DownloadProgress) => void) | undefined;
  /** An access token of any form; default the environment's HF_TOKEN, or none. It is sent to `endpoint` only. */
  readonly token?: string | undefined;
  /**
   * Address of the Hub; default `env.remoteHost` where that was set, or the environment's HF_ENDPOINT, or
   * https://huggingface.co.
   */
  readonly endpoint?: string | undefined;
  /** Stops the download; default: it cannot be stopped. */
  readonly signal?: AbortSignal | undefined;
  /** The function that requests go through; default the global `fetch`. */
  readonly fetch?: typeof fetch | undefined;
}

/** `owner/name`. */
export const HUB_ID = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
