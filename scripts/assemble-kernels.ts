import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import wabt from 'wabt';
import { writeFileAtomic } from '../src/files/atomic.ts';

const folder = new URL('../src/trainers/engines/', import.meta.url);

/** The binary of src/trainers/engines/host-kernels.wat in base64. */
export async function assembleKernels(): Promise<string> {
  const file = fileURLToPath(new URL('host-kernels.wat', folder));
  const { parseWat } = await wabt();
  const module = parseWat(file, await readFile(file), { simd: true });
  try {
    module.resolveNames();
    module.validate();
    return Buffer.from(module.toBinary({}).buffer).toString('base64');
  } finally {
    module.destroy();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const source = [
    '// Made by `npx tsx scripts/assemble-kernels.ts` from host-kernels.wat.',
    'export const HOST_KERNELS =',
    `  '${await assembleKernels()}';`,
  ].join('\n');
  await writeFileAtomic(fileURLToPath(new URL('host-kernels-binary.ts', folder)), `${source}\n`);
}
