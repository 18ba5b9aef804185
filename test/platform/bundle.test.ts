import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { type BuildResult, build } from 'esbuild';
import { build as vite } from 'vite';
import { describe, expect, it } from 'vitest';
import published from '../../package.json' with { type: 'json' };
import sources from '../../src/package.json' with { type: 'json' };

/** A bundle of a program that imports from the sources, for a browser: with no plugin, alias or external module. */
function bundled(program: string): Promise<BuildResult<{ write: false; metafile: true }>> {
  return build({
    stdin: { contents: program, resolveDir: 'src', loader: 'ts' },
    bundle: true,
    splitting: true,
    minify: true,
    platform: 'browser',
    format: 'esm',
    outdir: 'out',
    write: false,
    metafile: true,
    logLevel: 'silent',
  });
}

/** Bytes, gzipped, of all that a page loads before it calls anything. */
async function firstLoad(program: string): Promise<number> {
  const { metafile, outputFiles } = await bundled(program);
  const { outputs } = metafile;
  const loaded = new Set<string>();
  const load = (file: string) => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const { path, kind } of outputs[file]?.imports ?? []) if (kind === 'import-statement') load(path);
  };
  load(Object.keys(outputs).find((file) => outputs[file]?.entryPoint === '<stdin>') ?? '');
  const contents = outputFiles.filter(({ path }) => [...loaded].some((file) => path.endsWith(file)));
  expect(contents).toHaveLength(loaded.size);
  return contents.reduce((sum, { contents: bytes }) => sum + gzipped(bytes), 0);
}

const gzipped = (contents: string | Uint8Array) => gzipSync(contents, { level: 9 }).length;

/** The same of Vite's bundle, with the script of onnxruntime-web. */
async function firstLoadOfVite(program: string): Promise<number> {
  const entry = path.resolve('src/program.ts');
  const bundle = await vite({
    configFile: false,
    logLevel: 'silent',
    plugins: [
      {
        name: 'program',
        resolveId: (name) => (name === entry ? name : undefined),
        load: (name) => (name === entry ? program : undefined),
      },
    ],
    build: {
      write: false,
      target: 'es2022',
      modulePreload: false,
      // Vite would copy 27 MB of WebAssembly.
      rollupOptions: { input: entry, external: ['onnxruntime-web/webgpu'], preserveEntrySignatures: 'strict' },
    },
  });
  const chunks = 'output' in bundle ? bundle.output.filter((one) => one.type === 'chunk') : [];
  const loaded = new Set(chunks.filter(({ facadeModuleId }) => facadeModuleId === entry));
  // A set is walked with what is added on the way.
  for (const { imports } of loaded) for (const chunk of chunks) if (imports.includes(chunk.fileName)) loaded.add(chunk);
  const script = readFileSync('node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs');
  return [...loaded].reduce((sum, { code }) => sum + gzipped(code), gzipped(script));
}

const CORE = `export { ConditionalDense, DDPMScheduler, isoLoss, pipeline, pointsFromArray, precisionRecallDensityCoverage,
  Trainer } from './index.web.ts'`;

describe('a bundle for a browser', () => {
  it('holds the whole package without a module of Node', async () => {
    const { metafile } = await bundled("export * from './index.web.ts'");
    const inputs = Object.keys(metafile.inputs);
    expect(inputs.filter((file) => /node_modules\/(sharp|onnxruntime-node|tar-stream|commander)\//.test(file))).toEqual(
      [],
    );
    expect(inputs.filter((file) => /src\/(cli|experiments|evaluation\/callback)\/|\/node\//.test(file))).toEqual([]);
  });

  it('may leave out of the published files what it may of the sources', () => {
    const compiled = sources.sideEffects.map((file) => file.replace('./', './dist/').replace(/\.ts$/, '.js'));
    expect(published.sideEffects).toEqual([...compiled, './dist/chunks/**', './dist/web/**']);
  });

  it.each([
    ['iso-diffusion/losses: a formula on arrays', 2_000, "export { isoDiffusionLoss } from './losses/index.ts'"],
    ['iso-diffusion/tfjs', 3_000, "export * from './losses/arrays/tfjs.ts'"],
    // A formula on arrays needs less, and the losses of graphs neither zod nor convolutions.
    ['iso-diffusion/losses, all of it', 12_500, "export * from './losses/index.ts'"],
    // esbuild puts into the first load what only Trainer.fromOnnx loads, because the package exports it as well.
    ['the 2-D core by esbuild', 185_000, CORE],
  ])('%s: at most %i bytes, gzipped', async (_what, most, program) => {
    expect(await firstLoad(program)).toBeLessThan(most);
  });

  it('the 2-D core by Vite, with the script of onnxruntime-web: at most 150,000 bytes, gzipped', async () => {
    const bytes = await firstLoadOfVite(CORE);
    expect(bytes).toBeGreaterThan(80_000);
    expect(bytes).toBeLessThan(150_000);
  });
});
