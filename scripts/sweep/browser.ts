import { pathToFileURL } from 'node:url';
import { launchChromium } from '../chromium.ts';

/** What a browser did with a page. */
export interface OpenedPage {
  /** The addresses that it asked for, the file itself among them; none for what the file holds. */
  readonly requests: readonly string[];
  /** Errors of scripts, and what the page's policy refused. */
  readonly errors: readonly string[];
  /** Images that show nothing. */
  readonly broken: number;
  /** Whether the page is wider than the window. */
  readonly overflows: boolean;
}

/**
 * Opens an HTML file in Chromium.
 *
 * @param picture where to write a PNG of the whole page; none by default. @param width of the window, in pixels.
 */
export async function openPage(
  file: string,
  { picture, width = 1160 }: { readonly picture?: string; readonly width?: number } = {},
): Promise<OpenedPage> {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage({ viewport: { width, height: 800 } });
    const requests: string[] = [];
    const errors: string[] = [];
    page.on('request', (request) => {
      if (!request.url().startsWith('data:')) requests.push(request.url());
    });
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    await page.goto(pathToFileURL(file).href, { waitUntil: 'load' });
    const { broken, overflows } = await page.evaluate<Pick<OpenedPage, 'broken' | 'overflows'>>(`({
      broken: [...document.images].filter((image) => image.naturalWidth === 0).length,
      overflows: document.documentElement.scrollWidth > window.innerWidth,
    })`);
    if (picture !== undefined) await page.screenshot({ path: picture, fullPage: true });
    return { requests, errors, broken, overflows };
  } finally {
    await browser.close();
  }
}
