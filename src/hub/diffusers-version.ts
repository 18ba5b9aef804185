/** The diffusers version whose configs and numerics are followed; configs are marked with it, as diffusers marks its own. */
export const DIFFUSERS_VERSION = '0.40.0';
