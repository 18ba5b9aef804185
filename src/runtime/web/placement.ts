/** onnxruntime-web names them in the console of the page alone. See node/placement.ts for the same in Node.js. */
export const nodesOnCpu = async (): Promise<{ misplaced: readonly string[]; onPurpose: readonly string[] }> => ({
  misplaced: [],
  onPurpose: [],
});
