import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Calls `use` with a temporary folder into which `save` has written a pipeline. */
export async function withSavedPipeline<T>(
  save: (folder: string) => void | Promise<void>,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  const parent = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  const folder = path.join(parent, 'pipeline');
  try {
    await save(folder);
    return await use(folder);
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
}
