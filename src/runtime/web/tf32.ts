// TF32 is of cuda, which a browser has not. See node/tf32.ts for the same in Node.js.

export const usesTf32 = (): boolean => false;

export function setTf32(_enabled: boolean): void {}
