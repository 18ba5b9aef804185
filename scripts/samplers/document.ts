import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeFileAtomic } from '../../src/files/atomic.ts';

/** A file of docs/. */
export const documentPath = (name: string) => fileURLToPath(new URL(`../../docs/${name}`, import.meta.url));

/** Writes the part of a guide between the comments `<!-- NAME -->` and `<!-- end of NAME -->`. */
export async function writeSection(document: string, name: string, text: string): Promise<void> {
  const file = documentPath(document);
  const whole = readFileSync(file, 'utf8');
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const [from, to] = [whole.indexOf(begin), whole.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${file} has no '${begin}' with '${end}' after it`);
  await writeFileAtomic(file, `${whole.slice(0, from + begin.length)}\n\n${text.trim()}\n\n${whole.slice(to)}`);
}
