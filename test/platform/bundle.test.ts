import { gzipSync } from 'node:zlib';
import { type BuildResult, build } from 'esbuild';
import { describe, expect, it } from 'vitest';

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
  return contents.reduce((sum, { contents: bytes }) => sum + gzipSync(bytes, { level: 9 }).length, 0);
}

describe('a bundle for a browser', () => {
  it('holds the whole package without a module of Node', async () => {
    const { metafile } = await bundled("export * from './index.web.ts'");
    const inputs = Object.keys(metafile.inputs);
    expect(inputs.filter((file) => /node_modules\/(sharp|onnxruntime-node|tar-stream|commander)\//.test(file))).toEqual(
      [],
    );
    expect(inputs.filter((file) => /src\/(cli|experiments|evaluation)\/|\/node\//.test(file))).toEqual([]);
  });

  it.each([
    ['iso-diffusion/losses: a formula on arrays', 12_000, "export { isoDiffusionLoss } from './losses/index.ts'"],
    ['iso-diffusion/tfjs', 3_000, "export * from './losses/arrays/tfjs.ts'"],
    [
      'the 2-D core: data, model, losses, Trainer, pipeline and PRDC, with the script of onnxruntime-web',
      235_000,
      `export { ConditionalDense, DDPMScheduler, isoLoss, pipeline, pointsFromArray, precisionRecallDensityCoverage,
         Trainer } from './index.web.ts'`,
    ],
  ])('%s: at most %i bytes, gzipped', async (_what, most, program) => {
    expect(await firstLoad(program)).toBeLessThan(most);
  });
});
