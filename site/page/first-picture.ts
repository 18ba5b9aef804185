import type { Frames, IsotropyByTime, Quality } from '../messages.ts';
import type { Both, Side } from './experiment.ts';

/** What `first.json` has: points as base64 of whole numbers from -127 to 127. */
export interface FirstPicture {
  /** The coordinate that 127 stands for. */
  readonly scale: number;
  readonly real: string;
  readonly reverse: Both<PackedFrames>;
  readonly forward: PackedFrames;
  readonly measured: Both<{ readonly quality: Quality; readonly isotropy: IsotropyByTime }>;
}

/** The weights of a model that comes with the page, as float16. */
export const readyFile = (side: Side) => `ready-${side}.f16`;

export interface PackedFrames {
  readonly timesteps: readonly number[];
  readonly frames: readonly string[];
}

/** The picture of the model that comes with the page, before anything is computed. */
export async function readFirstPicture(): Promise<{
  readonly real: Float32Array;
  readonly reverse: Both<Frames>;
  readonly forward: Both<Frames>;
  readonly measured: FirstPicture['measured'];
}> {
  const response = await fetch(new URL('./first.json', import.meta.url));
  const { scale, real, reverse, forward, measured }: FirstPicture = await response.json();
  const points = (text: string) =>
    Float32Array.from(atob(text), (letter) => (((letter.charCodeAt(0) << 24) >> 24) * scale) / 127);
  const frames = (packed: PackedFrames) => ({ timesteps: packed.timesteps, frames: packed.frames.map(points) });
  const shared = frames(forward);
  return {
    real: points(real),
    reverse: { plain: frames(reverse.plain), iso: frames(reverse.iso) },
    forward: { plain: shared, iso: shared },
    measured,
  };
}

/** The weights of the two models, for what needs more than their picture. */
export async function readyWeights(): Promise<
  Both<{ readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }>
> {
  const weights = async (side: Side) => {
    const name = readyFile(side);
    const response = await fetch(new URL(`./${name}`, import.meta.url));
    if (!response.ok)
      throw new Error('The model that comes with the page could not be loaded: press Train for a new one.');
    return { name, bytes: new Uint8Array(await response.arrayBuffer()) };
  };
  const [plain, iso] = await Promise.all([weights('plain'), weights('iso')]);
  return { plain, iso };
}
