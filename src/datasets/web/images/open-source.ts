import { NotInBrowserError } from '../../../errors.ts';
import type { ImageSource } from '../../images/sources/image-source.ts';

/** @throws {NotInBrowserError} always: folders, archives and sets of the Hub need Node. */
export async function openSource(source: string): Promise<ImageSource> {
  throw new NotInBrowserError(
    `'${source}' cannot be opened in a browser: pass the image files themselves (File or Blob), or imagesFromArray`,
  );
}
