/**
 * Times our steps in a process of its own, because TF32 is a setting of the process: `tsx bench/gpu/ours.ts SETTINGS`
 * with the settings as JSON. The last line that it prints is the result as JSON.
 */
import { UNet2DModel, unet2DPreset } from '../../src/models/index.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import type { ConcreteDevice } from '../../src/runtime/device.ts';
import { measureSteps } from './measure-steps.ts';

export interface OurSettings {
  readonly device: ConcreteDevice;
  readonly batch: number;
  /** Steps of the shorter run. */
  readonly steps: number;
  readonly tf32: boolean;
  /** Default 'no'. */
  readonly mixed_precision?: 'no' | 'fp16';
}

const { device, batch, steps, tf32, mixed_precision }: OurSettings = JSON.parse(process.argv[2] ?? '{}');
configureRuntime({ tf32 });
const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
console.log(JSON.stringify(await measureSteps(model, device, batch, steps, mixed_precision)));
