import { describe, expect, it } from 'vitest';
import type { CaseName } from './cases.ts';
import { hasFakeCuda, hasMpi, runCase, runRanks } from './kit.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** The most that a case may take; what a step takes is of one of `batches` forward and backward passes. */
interface Limits {
  readonly batches?: number;
  readonly toDeviceMiB: number;
  /** Bytes. The condition of a Loop is 1 for each turn, in which the host waits for the GPU. */
  readonly toHost: number;
  readonly memoryGiB: number;
  /**
   * Processor time of the thread that feeds the GPU. The U-Net should take 15 ms to train and 3 to draw. It took 9 and 3.5 on
   * a busy machine, and the limit is twice what it should. Tables that grow with the parameters, or convolutions on the cpu,
   * take a second.
   */
  readonly hostMs: number;
  /** Whether the file computes with shapes, which onnxruntime leaves to the cpu on purpose. */
  readonly hasShapes?: boolean;
}

const ofUNet: Limits = { toDeviceMiB: 6, toHost: 1, memoryGiB: 13, hostMs: 30 };

const ofPoints: Limits = { toDeviceMiB: 0.1, toHost: 1, memoryGiB: 0.1, hostMs: 2 };

/** At batch 128. */
const cases: Readonly<Record<Exclude<CaseName, 'uneven'>, Limits>> = {
  unet: ofUNet,
  // Two passes for the means of the loss, two for the gradients: four turns of Loops inside the Loop over steps.
  accumulation: { ...ofUNet, batches: 2, toHost: 5, memoryGiB: 9 },
  checkpointing: { ...ofUNet, memoryGiB: 10 },
  classes: ofUNet,
  fp16: { ...ofUNet, memoryGiB: 9 },
  'learned-variance': ofUNet,
  'whole-rows': { toDeviceMiB: 3, toHost: 1, memoryGiB: 1.5, hostMs: 6 },
  points: ofPoints,
  lion: ofPoints,
  sgd: ofPoints,
  'without-tf32': ofPoints,
  'fine-tuning': ofUNet,
  'fine-tuning-torch': { toDeviceMiB: 0.5, toHost: 1, memoryGiB: 0.2, hostMs: 8 },
  // The images of each run of 10 steps.
  sampling: { toDeviceMiB: 2, toHost: 0.2 * MIB, memoryGiB: 3, hostMs: 6 },
  // Step by step: the images of each.
  'sampling-torch': { toDeviceMiB: 0.1, toHost: 0.1 * MIB, memoryGiB: 0.1, hostMs: 6, hasShapes: true },
};

describe.skipIf(!hasFakeCuda)('on cuda', () => {
  it.each(Object.entries(cases) as [CaseName, Limits][])('%s', async (name, limits) => {
    const { batches = 1, toDeviceMiB, toHost, memoryGiB, hostMs, hasShapes = false } = limits;
    const { step, memoryPeak, unevenConvolutions, tf32, misplaced, copyNodes } = await runCase(name);
    if (!hasShapes) {
      expect.soft(misplaced).toEqual([]);
      expect.soft(copyNodes).toEqual([]);
    }
    expect.soft(unevenConvolutions).toBe(0);
    expect.soft(tf32).toBe(name !== 'without-tf32');
    expect.soft(step.bytesToDevice / MIB, 'MiB to the device').toBeLessThanOrEqual(batches * toDeviceMiB);
    expect.soft(step.bytesToHost, 'bytes to the host').toBeLessThanOrEqual(toHost);
    expect.soft(memoryPeak / GIB, 'GiB of memory').toBeLessThanOrEqual(memoryGiB);
    expect.soft(step.hostMs, 'ms of the host').toBeLessThanOrEqual(batches * hostMs);
    // Else a run that does nothing would pass.
    expect(step.launches).toBeGreaterThan(100);
    expect(step.bytesToDevice).toBeGreaterThan(0);
  });

  it('a convolution inside a Loop that would run on the cpu is refused by its name', async () => {
    await expect(runCase('uneven')).rejects.toThrow(
      /DeviceError: 'cuda' cannot run all of the model: ConvTranspose \(ConvTranspose_\d+\) would run on the cpu/,
    );
  });
});

describe.skipIf(!hasFakeCuda || !hasMpi)('two ranks on cuda', () => {
  const TWO_GPUS = { FAKE_CUDA_DEVICES: '2' };

  it('take a GPU each, exchange gradients, and end with the same bits', async () => {
    const { ranks } = await runRanks(['points', '1'], { ...TWO_GPUS, FAKE_CUDA_VALUES: '1' });
    expect(ranks.map(({ device }) => device)).toEqual(['cuda', 'cuda:1']);
    // Bits of devices. The provider itself asks for a byte of the first.
    expect(ranks.map(({ devices }) => devices)).toEqual([1, 2]);
    // The gradient is 1 on one GPU and 2 on the other. Adam's mean of three steps is over 1 - beta1.
    for (const { firstMoment } of ranks) expect(firstMoment).toBeCloseTo(1.5 * (1 + 0.9 + 0.81), 5);
    expect(ranks[1]?.sha256).toBe(ranks[0]?.sha256);
  });

  // Of each batch, parameters go up for the pass that finds the means and for that of the gradients.
  it.each([
    ['unet', 1],
    ['points', 2],
  ])('copy parameters up and gradients down: %s, batches of each: %i', async (model, batches) => {
    const env = { ...TWO_GPUS, FAKE_CUDA_VALUES: '1' };
    const { ranks, misplaced, copyNodes } = await runRanks([model, String(batches)], env);
    expect.soft(misplaced).toEqual([]);
    expect.soft(copyNodes).toEqual([]);
    for (const { parameterBytes, toDevice, toHost, memoryPeak } of ranks) {
      expect.soft(toHost - batches * parameterBytes, 'bytes to the host').toBeLessThan(batches * 100);
      expect.soft((toDevice - 2 * batches * parameterBytes) / MIB, 'MiB to the device').toBeLessThan(batches * 7);
      expect.soft(memoryPeak / GIB).toBeLessThan(13);
    }
    expect(ranks[1]?.sha256).toBe(ranks[0]?.sha256);
  });

  it('share a GPU where they are told to', async () => {
    const { ranks } = await runRanks(['points', '1', '0'], {});
    expect(ranks.map(({ device }) => device)).toEqual(['cuda', 'cuda']);
  });

  it('take the first of the GPUs that each of them alone sees', async () => {
    const { ranks } = await runRanks(['points', '1'], { FAKE_CUDA_DEVICES: '8' }, ['5', '2,3']);
    expect(ranks.map(({ device }) => device)).toEqual(['cuda', 'cuda']);
  });

  it('are refused when there are fewer GPUs', async () => {
    await expect(runRanks(['points', '1'], { FAKE_CUDA_DEVICES: '3', CUDA_VISIBLE_DEVICES: '1' })).rejects.toThrow(
      /DeviceError: 2 ranks run on this machine, but they see only 1 GPU:/,
    );
    await expect(runRanks(['points', '1', '2'], TWO_GPUS)).rejects.toThrow(
      /DeviceError: device_id 2 cannot be used: this process sees 2 GPUs/,
    );
  });
});
