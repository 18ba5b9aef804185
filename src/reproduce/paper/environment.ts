import { readFileSync } from 'node:fs';
import os from 'node:os';

/** Where a result was computed. */
export function environment() {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return {
    package_version: (JSON.parse(text) as { version: string }).version,
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: os.cpus()[0]?.model ?? 'unknown',
  };
}
