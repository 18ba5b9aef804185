import { NotInBrowserError } from '../../../errors.ts';
import type { ImageSource, SourceChoice } from '../../images/sources/image-source.ts';

/** @throws {NotInBrowserError} for all but 'digits': folders, archives and sets of the Hub need Node. */
export async function openSource(source: string, choice: SourceChoice): Promise<ImageSource> {
  if (source === 'digits') return (await import('../../images/sources/digits.ts')).digitsSource(choice);
  throw new NotInBrowserError(
    `'${source}' cannot be opened in a browser: give 'digits', the image files themselves (File or Blob), or imagesFromArray`,
  );
}
