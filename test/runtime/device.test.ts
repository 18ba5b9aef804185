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
