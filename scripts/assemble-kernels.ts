import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import wabt from 'wabt';
import { writeFileAtomic } from '../src/files/atomic.ts';

/** Sources below src/, whose binaries lie beside them, with the names of their constants. */
const SOURCES = {
  HOST_KERNELS: 'trainers/engines/host-kernels',
  IMAGE_KERNELS: 'datasets/images/image-kernels',
};

const fileOf = (path: string) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));

/** The binary of a source in base64. */
export async function assembleKernels(name: keyof typeof SOURCES): Promise<string> {
  const file = fileOf(`${SOURCES[name]}.wat`);
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
  for (const name of Object.keys(SOURCES) as (keyof typeof SOURCES)[]) {
    const path = SOURCES[name];
    const source = [
      `// Made by \`npx tsx scripts/assemble-kernels.ts\` from ${path.split('/').at(-1)}.wat.`,
      `export const ${name} =`,
      `  '${await assembleKernels(name)}';`,
    ].join('\n');
    await writeFileAtomic(fileOf(`${path}-binary.ts`), `${source}\n`);
  }
}
