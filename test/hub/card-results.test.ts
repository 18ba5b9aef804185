import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { withResults } from '../../src/hub/card-results.ts';

const facts = { name: 'flowers', task: 'unconditional-image-generation' };
const results = { metrics: { fid: 12.5 }, dataset: { name: '/home/me/private set' } };
const headerOf = (card: string) => parse(card.split('---\n')[1] ?? '');

it('keeps what a person has written, and replaces former results', () => {
  const card = `---
license: mit # ours
datasets: [owner/set]
---

# Flowers

## Metrics

| | |
|---|---|
| fid | 99 |

## Use

As you like.
`;
  const changed = withResults(card, results, facts);
  expect(changed).toContain('license: mit # ours\n');
  expect(changed).not.toContain('99');
  expect(changed).not.toContain('/home/me');
  expect(changed).toMatch(
    /# Flowers\n\n## Metrics\n\n\| \| \|\n\|---\|---\|\n\| fid \| 12\.5 \|\n\n## Use\n\nAs you like\.\n$/,
  );
  expect(headerOf(changed)['model-index'][0].results[0].dataset).toEqual({ name: 'private set', type: 'private set' });
  expect(withResults(changed, results, facts)).toBe(changed);
  const ofTraining = withResults(card, { metrics: { fid: 1 } }, facts);
  expect(headerOf(ofTraining)['model-index'][0].results[0].dataset.name).toBe('owner/set');
});

it.each(['', '# Flowers\n', '---\n---\n', '# Flowers\n\n## Metrics\n\nnone yet'])(
  'gives %j a header and a table',
  (card) => {
    const changed = withResults(card, results, facts);
    expect(headerOf(changed)['model-index'][0]).toMatchObject({ name: 'flowers' });
    expect(changed).toMatch(/## Metrics\n\n.*\| fid \| 12\.5 \|\n$/s);
    expect(changed).not.toContain('none yet');
  },
);
