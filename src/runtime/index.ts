export { DEVICES, type Device, type DeviceReport, deviceReports } from './device.ts';
