import { describe, expect, it } from 'vitest';
import { dataUri, html, htmlPage, Markup } from '../../src/pages/page.ts';
import { curveSvg } from '../../src/plots/curves.ts';
import { PAGE_LOOK } from '../../src/plots/render.ts';

describe('html', () => {
  it('escapes values, in text and in attributes, and inserts markup and lists as they are', () => {
    const hostile = `"><script>alert('1')</script>&`;
    const text = html`<p title="${hostile}">${hostile}</p>`.toString();
    expect(text).not.toContain('<script>');
    expect(text.match(/&#34;&#62;&#60;script&#62;/g)).toHaveLength(2);
    expect(html`<ul>${[1, 2].map((n) => html`<li>${n}</li>`)}${undefined}</ul>`.toString()).toBe(
      '<ul><li>1</li><li>2</li></ul>',
    );
  });
});

describe('htmlPage', () => {
  it('holds all that it shows: its policy allows no other source', async () => {
    const title = 'loss of <b>';
    const svg = await curveSvg(
      { series: [{ name: 'a', x: [0, 1], y: [1, 2] }], title, x_label: 'step', y_label: '' },
      PAGE_LOOK,
    );
    const image = dataUri('image/png', Uint8Array.of(1, 2, 3));
    const page = htmlPage({ title, body: html`<figure>${new Markup(svg)}<img src="${image}" alt=""></figure>` });
    expect(page).toContain('default-src &#39;none&#39;');
    expect(page).toContain('<title>loss of &#60;b&#62;</title>');
    expect(page).toContain('src="data:image/png;base64,AQID"');
    expect(page).not.toContain('of <b>');
    const addresses = [...page.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, address]) => address);
    expect(addresses.every((address) => address?.startsWith('data:'))).toBe(true);
    expect(svg).toContain('stroke="var(--series-1)"');
    expect(svg).not.toContain('fill="#000"');
  });

  it('loads itself again only while it is told to', () => {
    const page = { title: 'run', body: html`<p></p>` };
    expect(htmlPage({ ...page, reload_seconds: 5 })).toContain('location.reload(), 5000)');
    expect(htmlPage(page)).not.toContain('<script>');
  });
});
