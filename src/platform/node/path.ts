export { basename, dirname, extname, isAbsolute, join, parse, posix, relative, resolve, sep } from 'node:path';
export { fileURLToPath } from 'node:url';
