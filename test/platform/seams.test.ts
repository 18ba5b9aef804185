import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import nodePath from 'node:path';
import { describe, expect, it } from 'vitest';
import * as node from '../../src/index.ts';
import * as browser from '../../src/index.web.ts';
import { sha256Of, createHash as webHash } from '../../src/platform/web/hash.ts';
import * as webPath from '../../src/platform/web/path.ts';

describe('the browser side of the platform', () => {
  it.each(readdirSync('src/platform/node').map((file) => file.replace('.ts', '')))(
    'exports what the Node side exports: %s',
    async (name) => {
      const inNode: object = await import(`../../src/platform/node/${name}.ts`);
      const inBrowser: object = await import(`../../src/platform/web/${name}.ts`);
      expect(Object.keys(inNode).filter((each) => !(each in inBrowser))).toEqual([]);
    },
  );

  it('gives every name of the package', () => {
    expect(Object.keys(browser).sort()).toEqual(Object.keys(node).sort());
  });

  it('refuses what needs Node with a named error and a sentence', () => {
    expect(() => (browser.sweep as () => never)()).toThrow(node.NotInBrowserError);
    expect(() => new (browser.EvaluationCallback as unknown as new () => unknown)()).toThrow(
      'EvaluationCallback works in Node, not in a browser: it evaluates in another process',
    );
  });

  it.each([0, 1, 55, 56, 63, 64, 65, 1000, 100_003])('hashes %i bytes as node:crypto does', async (length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7919) >> 3);
    const expected = createHash('sha256').update(bytes).digest('hex');
    expect(webHash('sha256').update(bytes).digest('hex')).toBe(expected);
    const [first, second] = [bytes.subarray(0, length >> 1), bytes.subarray(length >> 1)];
    expect(await sha256Of([first, second])).toBe(expected);
    const inPieces = webHash('sha256').update(first).update(second);
    expect(Buffer.from(inPieces.digest()).toString('hex')).toBe(expected);
  });

  it('hashes text as UTF-8, and the words of other arrays as bytes', () => {
    expect(webHash('sha256').update('λ\u{1F300}').digest('hex')).toBe(
      createHash('sha256').update('λ\u{1F300}').digest('hex'),
    );
    const floats = Float32Array.of(1, -2.5, 1e-40);
    expect(webHash('sha256').update(floats).digest('hex')).toBe(createHash('sha256').update(floats).digest('hex'));
  });

  it('has paths as node:path has them', () => {
    const { posix } = nodePath;
    const { posix: web } = webPath;
    const paths = [
      'a',
      'a/b',
      '/a/b/',
      './a/../b',
      '/..',
      'a.b/c.tar.gz',
      '.hidden',
      'a/.x',
      '..',
      '../..',
      '/',
      'x.',
      'a//b',
    ];
    for (const path of paths) {
      for (const name of ['basename', 'dirname', 'extname', 'isAbsolute'] as const)
        expect([path, name, web[name](path)]).toEqual([path, name, posix[name](path)]);
      for (const other of paths) {
        expect([path, other, web.join(path, other)]).toEqual([
          path,
          other,
          posix.join(path, other).replace(/(?<=.)\/$/, ''),
        ]);
        expect(web.resolve(path, other)).toBe(posix.resolve('/', path, other));
        expect(web.relative(`/${path}`, `/${other}`)).toBe(posix.relative(`/${path}`, `/${other}`));
      }
      if (!/^\/(\.\.)?$|\.\.$/.test(path)) expect(web.parse(path)).toMatchObject(withoutRoot(path));
    }
  });
});

function withoutRoot(path: string) {
  const { dir, base, name, ext } = nodePath.posix.parse(path);
  return { dir, base, name, ext };
}
