export { configureRuntime, type RuntimeOptions } from './configure.ts';
export { type ConcreteDevice, DEVICES, type Device, type DeviceReport, deviceReports } from './device.ts';
export type { TfjsModule } from './tfjs/tf-module.ts';
