import { createHash } from 'node:crypto';

export { createHash };

/** The SHA-256 of parts that follow each other, in hexadecimal digits. */
export async function sha256Of(parts: readonly Uint8Array[]): Promise<string> {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}
