import { describe, expect, it, vi } from 'vitest';
import { DeviceError, InvalidArgumentError, OnnxFormatError } from '../../src/errors.ts';
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
    const first = await resolveDevice('auto', warn);
    await resolveDevice('auto', warn);
    expect(first === 'cpu').toBe(!gpu);
    expect(warn).toHaveBeenCalledTimes(gpu ? 0 : 1);
  });
});

describe('Session', () => {
  it('refuses bytes that are no model', async () => {
    await expect(Session.create(new Uint8Array([1, 2, 3]), 'cpu')).rejects.toThrow(OnnxFormatError);
    await expect(Session.create('/no/such/model.onnx', 'cpu')).rejects.toThrow(OnnxFormatError);
  });
});
