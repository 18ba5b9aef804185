import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { DeviceError, InvalidArgumentError, OnnxFormatError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add } from '../../src/graph/ops/index.ts';
import { deviceReports, isAvailable, parseDevice, resolveDevice } from '../../src/runtime/device.ts';
import { Session } from '../../src/runtime/session.ts';

describe('devices', () => {
  it('are known by name', () => {
    expect(parseDevice('webgpu')).toBe('webgpu');
    expect(() => parseDevice('tpu')).toThrow(InvalidArgumentError);
    expect(() => parseDevice('tpu')).toThrow(/'tpu' is unknown: use one of auto, gpu, cpu, webgpu, cuda/);
  });

  it('report what is missing and what to install', async () => {
    const reports = await deviceReports();
    expect(reports.map(({ device }) => device)).toEqual(['cpu', 'webgpu', 'cuda']);
    expect(reports[0]).toMatchObject({ available: true });
    for (const report of reports) expect(report.available || /install/.test(report.advice)).toBe(true);
  });

  it('that were asked for by name must be there', async () => {
    if (await isAvailable('cuda')) return expect(await resolveDevice('cuda')).toBe('cuda');
    await expect(resolveDevice('cuda')).rejects.toThrow(DeviceError);
    return expect(resolveDevice('cuda')).rejects.toThrow(/device 'cuda' is not available here.*install/);
  });

  it('auto falls back to the cpu with one warning', async () => {
    const gpu = (await isAvailable('cuda')) || (await isAvailable('webgpu'));
    const warn = vi.fn();
    const first = await resolveDevice('auto', { warn });
    await resolveDevice('auto', { warn });
    expect(first === 'cpu').toBe(!gpu);
    expect(warn).toHaveBeenCalledTimes(gpu ? 0 : 1);
  });
});

it('auto keeps points on the cpu where there is a GPU', async () => {
  vi.resetModules();
  const file = '../../src/runtime/node/devices.ts';
  vi.doMock(file, async (actual) => ({ ...(await actual<object>()), tryGpu: async () => undefined }));
  const { resolveDevice: resolve } = await import('../../src/runtime/device.ts');
  vi.doUnmock(file);
  expect(await resolve('auto', { samples: 'images' })).toBe('cuda');
  expect(await resolve('auto', { samples: 'points' })).toBe('cpu');
  expect(await resolve('gpu', { samples: 'points' })).toBe('cuda');
});

describe('GPUs of cuda', () => {
  /** The resolving of a process that sees three GPUs. @param missing numbers that do not compute. */
  const withGpus = async (ranks: { localRank: number; localSize: number }, ...missing: number[]) => {
    vi.resetModules();
    const files = ['../../src/runtime/node/devices.ts', '../../src/distributed/world.ts'] as const;
    const chosen: number[] = [];
    vi.doMock(files[0], async (actual) => ({
      ...(await actual<object>()),
      tryGpu: async (provider: { deviceId?: number }) =>
        missing.includes(provider.deviceId ?? 0) ? 'none' : undefined,
      cudaDeviceCount: async () => 3,
      chosenDeviceId: () => chosen.at(-1),
      chooseDeviceId: (id: number) => void chosen.push(id),
    }));
    vi.doMock(files[1], () => ({ world: () => ranks }));
    const device = await import('../../src/runtime/device.ts');
    const { configureRuntime } = await import('../../src/runtime/configure.ts');
    for (const file of files) vi.doUnmock(file);
    return { ...device, configureRuntime, chosen };
  };
  const alone = { localRank: 0, localSize: 1 };

  it('are chosen by device_id, for one call or for the process', async () => {
    const { resolveDevice: resolve, configureRuntime, executionProvider } = await withGpus(alone);
    expect(await resolve('cuda')).toBe('cuda');
    expect(await resolve('auto', { device_id: 2 })).toBe('cuda:2');
    expect(executionProvider('cuda:2')).toEqual({ name: 'cuda', deviceId: 2 });
    expect(await resolve('cpu', { device_id: 2 })).toBe('cpu');
    configureRuntime({ device_id: 1 });
    expect(await resolve('gpu')).toBe('cuda:1');
    expect(await resolve('gpu', { device_id: 0 })).toBe('cuda');
    expect(() => configureRuntime({ device_id: -1 })).toThrow('device_id is -1, but must be a whole number from 0');
  });

  it('that are not there are refused', async () => {
    const { resolveDevice: resolve } = await withGpus(alone, 5);
    await expect(resolve('cuda', { device_id: 5 })).rejects.toThrow(
      'device_id 5 cannot be used: this process sees 3 GPUs. GPUs are counted from 0',
    );
  });

  it('are taken by ranks one each, and by the processes that they start', async () => {
    const { resolveDevice: resolve, chosen } = await withGpus({ localRank: 2, localSize: 3 });
    expect(await resolve('cuda')).toBe('cuda:2');
    expect(chosen).toEqual([2]);
  });

  it('that are fewer than the ranks are refused, unless they are to be shared', async () => {
    const { resolveDevice: resolve, deviceReports: reports } = await withGpus({ localRank: 3, localSize: 4 });
    await expect(resolve('cuda')).rejects.toThrow(
      "4 ranks run on this machine, but they see only 3 GPUs: start 3 here, use device 'cpu', or let them share",
    );
    expect(await resolve('cuda', { device_id: 1 })).toBe('cuda:1');
    expect((await reports())[2]).toMatchObject({ device_count: 3, device_id: undefined });
  });
});

describe('looking for a GPU', () => {
  const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';
  const without = { ...process.env, XDG_RUNTIME_DIR: undefined, VK_DRIVER_FILES: undefined };
  const withSoftware = { ...process.env, XDG_RUNTIME_DIR: '/tmp', VK_DRIVER_FILES: SWIFTSHADER };
  const node = (program: string, env: NodeJS.ProcessEnv) =>
    spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      env,
      encoding: 'utf8',
      timeout: 50_000,
    });
  const module = pathToFileURL('src/runtime/device.ts').href;

  it('writes nothing, whatever the driver says to a session that is made at once', () => {
    const program = `const { resolveDevice, deviceReports } = await import('${module}');
      await resolveDevice('auto', { warn: () => undefined });
      console.log((await deviceReports()).length);`;
    const { stdout, stderr } = node(program, without);
    expect({ stdout, stderr }).toEqual({ stdout: '3\n', stderr: '' });
  });

  it.each([
    ['without a driver', without],
    ['with the software driver of chromium, where there is one', withSoftware],
  ])('finds what a session in the process itself finds, %s', (_which, env) => {
    const entry = pathToFileURL(createRequire(import.meta.url).resolve('onnxruntime-node')).href;
    const program = `const { isAvailable } = await import('${module}');
      console.log(await isAvailable('webgpu'));
      const { InferenceSession } = (await import('${entry}')).default;
      const model = Buffer.from('${Buffer.from(additionModel()).toString('base64')}', 'base64');
      const session = InferenceSession.create(model, { executionProviders: ['webgpu'], logSeverityLevel: 4 });
      console.log(await session.then(() => true, () => false));
      process.exit();`;
    expect(node(program, env).stdout).toMatch(/^(true\ntrue|false\nfalse)\n$/);
  });
});

/** y = x + x of one float. */
function additionModel(): Uint8Array {
  const graph = new Graph('addition');
  const x = graph.input('x', 'float32', [1]);
  graph.output('y', add(x, x));
  return writeOnnx(graph);
}

describe('Session', () => {
  it('refuses bytes that are no model', async () => {
    await expect(Session.create(new Uint8Array([1, 2, 3]), 'cpu')).rejects.toThrow(OnnxFormatError);
    await expect(Session.create('/no/such/model.onnx', 'cpu')).rejects.toThrow(OnnxFormatError);
  });
});
