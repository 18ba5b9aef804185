export * from './isotropy.ts';
export { type Prdc, precisionRecallDensityCoverage } from './prdc.ts';
export * from './predicted-noise-isotropy.ts';
