import { NotInBrowserError } from '../../errors.ts';
import { joined } from './system.ts';

/* SHA-256 (FIPS 180-4). Web Crypto has it too, but neither step by step nor without a promise. */

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes, and of the square roots of 8. */
const primes = Array.from({ length: 312 }, (_, i) => i).filter(
  (n) => n > 1 && !Array.from({ length: n - 2 }, (_, i) => i + 2).some((divisor) => n % divisor === 0),
);
const fraction = (root: number) => ((root - Math.floor(root)) * 2 ** 32) | 0;
const ROUNDS = Int32Array.from(primes.slice(0, 64), (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

const BLOCK = 64;

class Sha256 {
  private readonly state = START.slice();
  private readonly block = new Uint8Array(BLOCK);
  private readonly words = new Int32Array(64);
  private bytes = 0;

  /** @param data text is hashed as UTF-8. */
  update(data: string | ArrayBufferView): this {
    const bytes =
      typeof data === 'string'
        ? new TextEncoder().encode(data)
        : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    let done = 0;
    const filled = this.bytes % BLOCK;
    this.bytes += bytes.length;
    if (filled > 0) {
      done = Math.min(BLOCK - filled, bytes.length);
      this.block.set(bytes.subarray(0, done), filled);
      if (filled + done < BLOCK) return this;
      this.compress(new DataView(this.block.buffer), 0);
    }
    // Whole blocks are read where they lie: a checkpoint has tens of thousands.
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (; done + BLOCK <= bytes.length; done += BLOCK) this.compress(view, done);
    this.block.set(bytes.subarray(done), 0);
    return this;
  }

  digest(): Uint8Array;
  digest(encoding: 'hex'): string;
  digest(encoding?: 'hex'): Uint8Array | string {
    const bits = BigInt(this.bytes) * 8n;
    const zeros = (2 * BLOCK - 9 - (this.bytes % BLOCK)) % BLOCK;
    const padding = new Uint8Array(zeros + 9);
    padding[0] = 0x80;
    new DataView(padding.buffer).setBigUint64(zeros + 1, bits);
    this.update(padding);
    const result = new Uint8Array(32);
    this.state.forEach((word, i) => {
      new DataView(result.buffer).setInt32(4 * i, word);
    });
    return encoding === 'hex' ? hexadecimal(result) : result;
  }

  private compress(view: DataView, offset: number): void {
    const { words, state } = this;
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(offset + 4 * i);
    for (let i = 16; i < 64; i++) {
      const [early, late] = [words[i - 15] as number, words[i - 2] as number];
      const small = rotated(early, 7) ^ rotated(early, 18) ^ (early >>> 3);
      const large = rotated(late, 17) ^ rotated(late, 19) ^ (late >>> 10);
      words[i] = ((words[i - 16] as number) + small + (words[i - 7] as number) + large) | 0;
    }
    let [a, b, c, d] = [state[0] as number, state[1] as number, state[2] as number, state[3] as number];
    let [e, f, g, h] = [state[4] as number, state[5] as number, state[6] as number, state[7] as number];
    for (let i = 0; i < 64; i++) {
      const sum1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
      const first = (h + sum1 + ((e & f) ^ (~e & g)) + (ROUNDS[i] as number) + (words[i] as number)) | 0;
      const sum0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
      const second = (sum0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + first) | 0;
      d = c;
      c = b;
      b = a;
      a = (first + second) | 0;
    }
    state[0] = (state[0] as number) + a;
    state[1] = (state[1] as number) + b;
    state[2] = (state[2] as number) + c;
    state[3] = (state[3] as number) + d;
    state[4] = (state[4] as number) + e;
    state[5] = (state[5] as number) + f;
    state[6] = (state[6] as number) + g;
    state[7] = (state[7] as number) + h;
  }
}

function rotated(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
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
    return hexadecimal(new Uint8Array(await crypto.subtle.digest('SHA-256', joined(parts))));
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

function hexadecimal(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
