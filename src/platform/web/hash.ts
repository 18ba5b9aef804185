import { sha256 } from '@noble/hashes/sha2.js';
import { NotInBrowserError } from '../../errors.ts';
import { joinedBytes } from '../bytes.ts';

/** SHA-256 step by step, which Web Crypto does not have, with the methods of Node's `Hash`. */
class Sha256 {
  private readonly hash = sha256.create();

  /** @param data text is hashed as UTF-8. */
  update(data: string | ArrayBufferView): this {
    const bytes =
      typeof data === 'string'
        ? new TextEncoder().encode(data)
        : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.hash.update(bytes);
    return this;
  }

  digest(): Uint8Array;
  digest(encoding: 'hex'): string;
  digest(encoding?: 'hex'): Uint8Array | string {
    const result = this.hash.digest();
    return encoding === 'hex' ? hexadecimal(result) : result;
  }
}

export function createHash(algorithm: string): Sha256 {
  if (algorithm === 'sha256') return new Sha256();
  throw new NotInBrowserError(`${algorithm} checksums are not computed in a browser, only sha256`);
}

/** Longer content is not copied for Web Crypto, which takes it in one piece. */
const MOST_COPIED_BYTES = 2 ** 26;

/** The SHA-256 of parts that follow each other, in hexadecimal digits: by Web Crypto where the page has it. */
export async function sha256Of(parts: readonly Uint8Array[]): Promise<string> {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  if (globalThis.crypto?.subtle && length <= MOST_COPIED_BYTES)
    return hexadecimal(new Uint8Array(await crypto.subtle.digest('SHA-256', joinedBytes(parts))));
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

function hexadecimal(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
