import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import { deviceReports } from '../../src/runtime/device.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-tf32-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** As the libraries of the process see it, which need not be what `process.env` says. */
const override = () => (process.report.getReport() as ReportedEnvironment).environmentVariables.NVIDIA_TF32_OVERRIDE;
interface ReportedEnvironment {
  readonly environmentVariables: Readonly<Record<string, string>>;
}

describe('tf32', () => {
  afterEach(() => configureRuntime({ tf32: true }));

  it('is set in the environment of the process, where the CUDA libraries read it', async () => {
    configureRuntime({ tf32: false });
    expect(override()).toBe('0');
    expect((await deviceReports()).map(({ device, tf32 }) => [device, tf32])).toEqual([
      ['cpu', undefined],
      ['webgpu', undefined],
      ['cuda', false],
    ]);
    configureRuntime({ tf32: true });
    expect(override()).toBeUndefined();
    expect((await deviceReports()).at(-1)?.tf32).toBe(true);
    expect(() => configureRuntime({ tf32: 'yes' as unknown as boolean })).toThrow(InvalidArgumentError);
  });

  it.skipIf(process.platform !== 'linux')('can no longer change once CUDA is loaded', () => {
    const program = `
      const { configureRuntime } = await import('${pathToFileURL('src/runtime/configure.ts').href}');
      for (const tf32 of [true, false])
        try { configureRuntime({ tf32 }); console.log(tf32, 'set'); }
        catch ({ name, message }) { console.log(tf32, name, message); }`;
    // Any library stands for that of onnxruntime: its name is what counts.
    const loaded = path.join(folder, 'libonnxruntime_providers_cuda.so');
    const root = path.dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
    copyFileSync(path.join(root, 'bin/napi-v6/linux', process.arch, 'libonnxruntime.so.1'), loaded);
    const args = ['--import', 'tsx', '--input-type=module', '--eval', program];
    const env = { ...process.env, LD_PRELOAD: loaded };
    const { stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: 50_000 });
    expect(stdout).toMatch(
      /^true set\nfalse DeviceError tf32: false comes too late: .* start a new process with NVIDIA_TF32_OVERRIDE=0 in its environment\n$/,
    );
  });

  it('cannot be set in a worker thread, whose environment libraries do not see', async () => {
    vi.resetModules();
    vi.doMock('node:worker_threads', () => ({ isMainThread: false }));
    const { setTf32 } = await import('../../src/runtime/node/tf32.ts');
    vi.doUnmock('node:worker_threads');
    setTf32(true);
    expect(() => setTf32(false)).toThrow(/tf32: false has no effect in a worker thread/);
  });
});
