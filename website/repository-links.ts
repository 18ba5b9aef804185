import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MarkdownRenderer } from 'vitepress';
import { SECTIONS, sitePath } from './navigation.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const SOURCES = 'https://github.com/iso-diffusion/iso-diffusion';

const pages = new Map(SECTIONS.flatMap((section) => section.pages).map((page) => [page.file, page]));

/**
 * Links of guides are relative to their files, for GitHub and npm. This makes them links to pages, or to files on GitHub. A link
 * that shows the name of a page's file, which a site has no use for, shows its title.
 */
export function repositoryLinks(md: MarkdownRenderer): void {
  md.core.ruler.push('repository_links', ({ tokens, env }) => {
    const source: unknown = env.realPath ?? env.path;
    if (typeof source !== 'string' || source.startsWith(path.join(root, 'website'))) return;
    for (const { children } of tokens)
      children?.forEach((token, i) => {
        const target = token.type === 'link_open' ? token.attrGet('href') : null;
        if (target === null || /^([a-z]+:|#|\/)/.test(target)) return;
        const file = linkedFile(source, target);
        token.attrSet('href', siteLink(source, target));
        const [text, page] = [children[i + 1], pages.get(file)];
        if (page && text?.type === 'text' && text.content === path.basename(file)) text.content = page.title;
      });
  });
}

/** Relative to the root of the repository. */
function linkedFile(source: string, target: string): string {
  return path.relative(root, path.resolve(path.dirname(source), target.replace(/#.*/, '')));
}

function siteLink(source: string, target: string): string {
  const [, ...anchor] = target.split(/(?=#)/);
  const file = linkedFile(source, target);
  const page = pages.get(file);
  if (page) return [`/${sitePath(page.file)}`, ...anchor].join('');
  // The first page of the site takes the place of README, but has other headings.
  if (file === 'README.md' && anchor.length === 0) return '/';
  const onDisk = path.join(root, file);
  if (file.startsWith('..') || !existsSync(onDisk)) {
    throw new Error(`${path.relative(root, source)} links to ${target}, and there is no such file`);
  }
  return `${SOURCES}/${statSync(onDisk).isDirectory() ? 'tree' : 'blob'}/main/${[file, ...anchor].join('')}`;
}

/** The anchor of a heading as GitHub makes it, so that one link leads to it there and on the site. */
export function githubAnchor(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-');
}
