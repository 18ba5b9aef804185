export * from './elementwise.ts';
export * from './indexing.ts';
export * from './loop.ts';
export * from './matmul.ts';
export * from './reduce.ts';
export * from './reshape.ts';
