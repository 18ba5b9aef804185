import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';
import { SECTIONS, sitePath } from '../navigation.ts';
import { githubAnchor, repositoryLinks } from '../repository-links.ts';

const pages = SECTIONS.flatMap((section) => section.pages);
const link = (file: string) => `/${sitePath(file)}`;

const guides = SECTIONS.map(({ title, pages }) => ({
  text: title,
  collapsed: false,
  items: pages.map(({ file, title: text }) => ({ text, link: link(file) })),
}));

const FRAME =
  /^(#+ (Constructors?|Defined in|Extended by|Extends|Implementation of|Implements|Inherited from|Methods|Overrides|Parameters|Properties|Returns|Throws)\b.*|Defined in: .*)$/gm;

const icon = readFileSync(new URL('../../site/static/icon.svg', import.meta.url));

const reference = {
  text: 'API reference',
  collapsed: false,
  items: [
    { text: 'iso-diffusion', link: '/api/iso-diffusion/' },
    { text: 'iso-diffusion/graph', link: '/api/iso-diffusion/graph/' },
    { text: 'iso-diffusion/losses', link: '/api/iso-diffusion/losses/' },
    { text: 'iso-diffusion/nn', link: '/api/iso-diffusion/nn/' },
    { text: 'iso-diffusion/tfjs', link: '/api/iso-diffusion/tfjs/' },
  ],
};

export default defineConfig({
  title: 'iso-diffusion',
  description: 'Train diffusion models with the isotropy-regularised Iso-Diffusion loss in TypeScript.',
  lang: 'en',
  head: [['link', { rel: 'icon', href: `data:image/svg+xml;base64,${icon.toString('base64')}` }]],
  // The guides stay where GitHub and npm show them.
  srcDir: '..',
  outDir: 'dist',
  cacheDir: 'website/.vitepress/cache',
  rewrites: {
    'website/index.md': 'index.md',
    'website/api/:rest*': 'api/:rest*',
    ...Object.fromEntries(pages.map(({ file }) => [file, sitePath(file)])),
  },
  srcExclude: [
    'README.md',
    'website/README.md',
    '{assets,bench,bin,dist,examples,runs,scripts,site,src,test}/**',
    '*-output/**',
  ],
  markdown: { config: repositoryLinks, anchor: { slugify: githubAnchor } },
  vite: {
    plugins: [
      {
        // Guides lie outside this package, and import vue once they are compiled.
        name: 'vue-of-the-website',
        enforce: 'pre',
        resolveId(source, _importer, { ssr }) {
          if (!/^vue(\/|$)/.test(source)) return null;
          return ssr
            ? { id: source, external: true }
            : this.resolve(source, fileURLToPath(import.meta.url), { skipSelf: true });
        },
      },
    ],
  },
  themeConfig: {
    nav: [
      { text: 'Tutorial', link: link('docs/tutorial-images.md') },
      { text: 'Results', link: link('docs/results-2d.md') },
      { text: 'API', link: '/api/iso-diffusion/' },
    ],
    sidebar: [...guides.slice(0, -1), reference, ...guides.slice(-1)],
    outline: [2, 3],
    search: {
      provider: 'local',
      options: {
        // Headings that every page of the reference has would be most of what a search finds.
        _render: (source, env, md) =>
          md.render(env.relativePath.startsWith('api/') ? source.replace(FRAME, '') : source, env),
      },
    },
    socialLinks: [{ icon: 'github', link: 'https://github.com/iso-diffusion/iso-diffusion' }],
  },
});
