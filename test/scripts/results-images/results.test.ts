import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { reportText } from '../../../scripts/results-images/report.ts';
import { mergedResults } from '../../../scripts/results-images/results.ts';
import { DEFAULT_SETS } from '../../../scripts/results-images/study.ts';

const JSON_FILE = 'docs/results-images.json';

describe('the results of results-images', () => {
  const digits = async () => {
    const [set] = await mergedResults(JSON_FILE, []);
    if (!set) throw new Error(`${JSON_FILE} has no set`);
    return set;
  };

  it('keep the sets of the file that have no new models, in the order of the study', async () => {
    const old = await mergedResults(JSON_FILE, []);
    const added = { ...(await digits()), name: 'digits', images: 7 };
    expect(await mergedResults(JSON_FILE, [added])).toEqual([...old, added]);
    expect(await mergedResults('docs/no-such-file.json', [added])).toEqual([added]);
  });

  it('keep the other models of a set that were made in the same way', async () => {
    const set = await digits();
    const again = set.models.filter(({ seed }) => seed === 1).map((model) => ({ ...model, isotropy: 0.5 }));
    const [merged] = await mergedResults(JSON_FILE, [{ ...set, models: again }]);
    expect(merged?.models).toEqual(set.models.map((model) => (model.seed === 1 ? { ...model, isotropy: 0.5 } : model)));
    const other = { ...set, settings: { ...set.settings, steps: 7 }, models: again };
    expect((await mergedResults(JSON_FILE, [other]))[0]).toEqual(other);
  });

  it('are what docs/results-images.md says', async () => {
    const sets = await mergedResults(JSON_FILE, []);
    expect(sets.map(({ name }) => name)).toEqual([...DEFAULT_SETS, 'emoji-24']);
    expect(await readFile('docs/results-images.md', 'utf8')).toBe(reportText(sets));
  });
});
