/**
 * `iso-diffusion`: the trainer, pipelines, losses, models, schedulers, data sets, metrics and experiments.
 *
 * @packageDocumentation
 */

export { useStore } from '#platform/fs';
export * from './autoencoders/index.ts';
export * from './datasets/index.ts';
export * from './errors.ts';
export * from './evaluation/index.ts';
export * from './experiments/index.ts';
export { zipFolder } from './files/zip.ts';
export * from './hub/index.ts';
export { env, RawImage, Tensor } from './hub/transformers.ts';
export * from './losses/index.ts';
export * from './metrics/index.ts';
export * from './models/index.ts';
export { ForwardContext, type ForwardContextOptions } from './nn/context.ts';
export type { ParameterSpec, ParameterValues } from './nn/parameters.ts';
export * from './pipelines/index.ts';
export { MemoryStore } from './platform/stores/memory-store.ts';
export { OpfsStore } from './platform/stores/opfs-store.ts';
export type { Store, StoreEntry, StoreFiles } from './platform/stores/store.ts';
export * from './plots/index.ts';
export { RandomStream, STREAM } from './random/random-stream.ts';
export { type SampleSeed, SampleStreams } from './random/sample-streams.ts';
export { Registry } from './registry.ts';
export * from './runtime/index.ts';
export * from './schedulers/index.ts';
export * from './trainers/index.ts';
