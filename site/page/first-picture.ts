import type { Frames } from '../messages.ts';
import type { Both } from './experiment.ts';

/** What `first.json` has: points as base64 of whole numbers from -127 to 127. */
export interface FirstPicture {
  /** The coordinate that 127 stands for. */
  readonly scale: number;
  readonly real: string;
  readonly reverse: Both<PackedFrames>;
  readonly forward: PackedFrames;
}

export interface PackedFrames {
  readonly timesteps: readonly number[];
  readonly frames: readonly string[];
}

/** The picture of the model that comes with the page, before anything is computed. */
export async function readFirstPicture(): Promise<{
  readonly real: Float32Array;
  readonly reverse: Both<Frames>;
  readonly forward: Both<Frames>;
}> {
  const response = await fetch(new URL('./first.json', import.meta.url));
  const { scale, real, reverse, forward }: FirstPicture = await response.json();
  const points = (text: string) =>
    Float32Array.from(atob(text), (letter) => (((letter.charCodeAt(0) << 24) >> 24) * scale) / 127);
  const frames = (packed: PackedFrames) => ({ timesteps: packed.timesteps, frames: packed.frames.map(points) });
  const shared = frames(forward);
  return {
    real: points(real),
    reverse: { plain: frames(reverse.plain), iso: frames(reverse.iso) },
    forward: { plain: shared, iso: shared },
  };
}
