import { z } from 'zod';
import { DEVICES, type Device } from '../../runtime/device.ts';
import { option } from './command-options.ts';

/** `--device`, for commands that compute. */
export const deviceOption = (byDefault: Device = 'auto') =>
  option('--device <name>', z.enum(DEVICES).default(byDefault), DEVICES.join(', '));
