import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { buildProgram, withHyphens } from '../src/cli/main.ts';
import { SECTIONS } from '../website/navigation.ts';

const markdown = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => path.join(folder, name));

/** Every page for users and contributors. */
const PAGES = [...markdown('.'), ...markdown('docs'), 'scripts/README.md', 'website/README.md'];

/** The blocks of code of all pages. A fence without a language holds what a program prints, or a formula. */
const blocks = PAGES.flatMap((page) =>
  [...readFileSync(page, 'utf8').matchAll(/^( *)```(\w+)\n([\s\S]*?)^\1```/gm)].map(
    ([, , language = '', text = '']) => ({
      page,
      language,
      text,
    }),
  ),
);

/** Commands of blocks of shell, without those of other programs before them: `mpirun -n 2`, settings of the environment. */
const commands = blocks
  .filter(({ language }) => language === 'bash' || language === 'sh')
  .flatMap(({ page, text }) =>
    statements(text).map((words) => {
      const start = words.findIndex((word) => !/^[A-Z_]+=/.test(word));
      const bare = words.slice(start);
      return { page, words: bare[0] === 'mpirun' ? bare.slice(3) : bare };
    }),
  );

/** The commands of a script, as words. Quotes may go over lines, and a backslash joins two. */
function statements(script: string): string[][] {
  const joined = script.replaceAll(/\\\n\s*/g, ' ').replaceAll(/(^|\s)#.*$/gm, '');
  const lines = joined.match(/(?:[^\n"']|"[^"]*"|'[^']*')+/g) ?? [];
  return lines
    .map((line) =>
      (line.match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g) ?? []).map((word) =>
        word.replaceAll(/"([^"]*)"|'([^']*)'/g, '$1$2'),
      ),
    )
    .filter((words) => words.length > 0);
}

describe('blocks of code', () => {
  it('are of languages that a test knows', () => {
    // ts and js: test/public-api compiles them. html: test/browser/bundlers.test.ts imports that file in Chromium. text is
    // not code. The others: below.
    const languages = new Set(blocks.map(({ language }) => language));
    expect(
      [...languages].filter((name) => !['ts', 'js', 'html', 'bash', 'sh', 'json', 'yaml', 'text'].includes(name)),
    ).toEqual([]);
  });

  it('of JSON and YAML are well-formed', () => {
    for (const { language, text } of blocks) {
      if (language === 'json') JSON.parse(text);
      if (language === 'yaml') parseYaml(text);
    }
  });

  it('have commands whose options the command line takes', async () => {
    const own = commands.flatMap(({ page, words }) => {
      const [first, ...others] = words[0] === 'npx' ? words.slice(1) : words;
      return first === 'iso-diffusion' ? [{ page, args: others }] : [];
    });
    expect(own.length).toBeGreaterThan(40);
    for (const { page, args } of own) {
      const program = await buildProgram(args[0]);
      const command = program.commands.find((each) => each.name() === args[0]);
      expect(command, `${page}: ${args.join(' ')}`).toBeDefined();
      command?.action(() => undefined);
      const parsed = program.parseAsync(args.map(withHyphens), { from: 'user' });
      await expect(parsed, `${page}: ${args.join(' ')}`).resolves.toBeDefined();
    }
  });

  it('have scripts of npm and files that exist', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
    for (const { page, words } of commands) {
      const where = `${page}: ${words.join(' ')}`;
      const [program, verb, name = ''] = words;
      if (program === 'npm' && verb === 'run' && !words.includes('--prefix'))
        expect(scripts, where).toHaveProperty([name]);
      if (program === 'npx' && verb === 'tsx') expect(existsSync(name), where).toBe(true);
      if (program === 'node' && verb) expect(existsSync(verb), where).toBe(true);
      // What other programs do is theirs: they are only to be the ones that somebody has looked at.
      expect(OTHERS, where).toContain(program === 'npx' ? verb : program);
    }
  });
});

const OTHERS = ['iso-diffusion', 'npm', 'node', 'tsx', 'apt-get', 'ldd', 'jest', 'vitest', 'esbuild', 'git', 'cd'];

describe('the documentation site', () => {
  it('lists every guide in its navigation', () => {
    const listed = SECTIONS.flatMap(({ pages }) => pages).map(({ file }) => file);
    const project = ['CHANGELOG.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', 'SECURITY.md'];
    expect(listed.toSorted()).toEqual([...markdown('docs'), ...project].toSorted());
  });
});

describe('docs/errors.md', () => {
  it('explains every class of errors, and no other', () => {
    const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
    const classes = sources.flatMap((name) =>
      [...readFileSync(path.join('src', name), 'utf8').matchAll(/^export class (\w+Error) /gm)].map(([, name]) => name),
    );
    expect(classes.length).toBeGreaterThan(25);
    const headings = [...readFileSync('docs/errors.md', 'utf8').matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
    expect(headings.toSorted()).toEqual(classes.toSorted());
  });
});
