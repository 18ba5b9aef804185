import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as api from '../src/index.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(path.join(root, 'README.md'), 'utf8');

describe('README', () => {
  it('has at most 120 lines', () => {
    expect(readme.trimEnd().split('\n').length).toBeLessThanOrEqual(120);
  });

  it('and CONTRIBUTING.md name npm scripts that exist', () => {
    const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
    const contributing = readFileSync(path.join(root, 'CONTRIBUTING.md'), 'utf8');
    const named = [...`${readme}${contributing}`.matchAll(/npm (?:run ([\w:-]+)|(test))/g)].map(
      (match) => match[1] ?? match[2],
    );
    expect(named.length).toBeGreaterThan(15);
    for (const name of named) expect(scripts).toHaveProperty([name ?? '']);
  });

  it('links to files that exist, and to every guide', () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map((match) => match[1] ?? '');
    expect(links.length).toBeGreaterThan(1);
    for (const link of links) expect(existsSync(path.join(root, link)), link).toBe(true);
    const guides = readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md'));
    expect(links).toEqual(expect.arrayContaining(['ARCHITECTURE.md', ...guides.map((name) => `docs/${name}`)]));
  });

  it('and docs/introduction.md name exports that exist', () => {
    const introduction = readFileSync(path.join(root, 'docs/introduction.md'), 'utf8');
    const mentioned = [...`${readme}${introduction}`.matchAll(/`(?:new )?([A-Za-z][A-Za-z0-9]*)\(/g)].map(
      (match) => match[1] ?? '',
    );
    expect(mentioned.length).toBeGreaterThan(5);
    for (const name of mentioned) expect(api).toHaveProperty(name);
  });
});
