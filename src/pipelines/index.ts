export { pipeline } from './pipeline.ts';
export * from './unconditional-point-generation.ts';
