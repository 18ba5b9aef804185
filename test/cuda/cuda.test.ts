import { describe, expect, it } from 'vitest';
import type { CaseName } from './cases.ts';
import { hasFakeCuda, runCase } from './kit.ts';

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
