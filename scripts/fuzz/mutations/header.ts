import { type Mutation, pick } from './mutation.ts';
import { changeJson, textMutations } from './text.ts';

/** A change of the JSON header of a safetensors file, whose length is made right. */
export const changeSafetensorsHeader: Mutation = (bytes, stream, file) => {
  if (bytes.length < 8) return undefined;
  const end = 8 + Number(Buffer.from(bytes.subarray(0, 8)).readBigUInt64LE());
  if (end > bytes.length) return undefined;
  const mutation = pick(stream, [changeJson, ...textMutations]);
  const header = mutation(bytes.subarray(8, end), stream, file);
  if (header === undefined) return undefined;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, bytes.subarray(end)]);
};
