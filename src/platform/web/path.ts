/* Paths in a store: those of POSIX, from the root `/`, which is also the current folder. As in node:path. */

export const sep = '/';

export function isAbsolute(path: string): boolean {
  return path.startsWith('/');
}

function normalized(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..' && (parts.length > 0 || isAbsolute(path)) && parts.at(-1) !== '..') parts.pop();
    else parts.push(part);
  }
  return (isAbsolute(path) ? '/' : '') + parts.join('/') || '.';
}

export function join(...parts: string[]): string {
  return normalized(parts.filter((part) => part !== '').join('/'));
}

export function resolve(...parts: string[]): string {
  const from = parts.findLastIndex(isAbsolute);
  return join('/', ...parts.slice(Math.max(from, 0)));
}

export function dirname(path: string): string {
  const bare = path.replace(/(?<=.)\/+$/, '');
  const slash = bare.lastIndexOf('/');
  if (slash < 0) return '.';
  return bare.slice(0, slash) || '/';
}

export function basename(path: string): string {
  return /([^/]*)\/*$/.exec(path)?.[1] ?? '';
}

export function extname(path: string): string {
  return /[^/.][^/]*?(\.[^/.]*)\/*$/.exec(basename(path))?.[1] ?? '';
}

export function parse(path: string): { dir: string; name: string; ext: string; base: string } {
  const [base, ext] = [basename(path), extname(path)];
  return {
    dir: path.includes('/') ? dirname(path) : '',
    base,
    ext,
    name: base.slice(0, base.length - ext.length),
  };
}

export function relative(from: string, to: string): string {
  const [a, b] = [resolve(from), resolve(to)].map((path) => path.split('/').filter(Boolean)) as [string[], string[]];
  const differ = a.findIndex((part, i) => part !== b[i]);
  const common = differ < 0 ? Math.min(a.length, b.length) : differ;
  return [...a.slice(common).map(() => '..'), ...b.slice(common)].join('/');
}

export const posix = { basename, dirname, extname, isAbsolute, join, parse, relative, resolve, sep };

/** The path that a `file:` URL names. */
export const fileURLToPath = (url: string): string => decodeURIComponent(new URL(url).pathname);
