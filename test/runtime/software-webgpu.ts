import { existsSync } from 'node:fs';
import { isAvailable } from '../../src/runtime/device.ts';

const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (existsSync(SWIFTSHADER)) {
  // Read by the Vulkan loader when the first session asks for an adapter.
  process.env.VK_DRIVER_FILES ??= SWIFTSHADER;
  process.env.XDG_RUNTIME_DIR ??= '/tmp';
}

/** Whether webgpu can be used, on a GPU or on the software driver of Debian's chromium. */
export const hasWebgpu = await isAvailable('webgpu');
if (!hasWebgpu)
  console.warn('skipping the webgpu tests: no adapter (apt-get install chromium libvulkan1 brings SwiftShader)');
