import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { reportText } from '../../../scripts/results-images/report.ts';
import { mergedResults, requireSameWay } from '../../../scripts/results-images/results.ts';
import { DEFAULT_SETS } from '../../../scripts/results-images/study.ts';
import { ConfigError } from '../../../src/errors.ts';

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
    // Trained, and not measured yet.
    const [unmeasured] = await mergedResults(JSON_FILE, [{ ...set, extractor: null, models: again }]);
    expect(unmeasured).toEqual(merged);
  });

  it('are refused beside models of the same set that were made in another way', async () => {
    const set = await digits();
    const steps = set.settings.steps + 1;
    const other = { ...set, settings: { ...set.settings, steps } };
    await expect(mergedResults(JSON_FILE, [other])).rejects.toThrow(ConfigError);
    const { name, settings } = other;
    await expect(requireSameWay(JSON_FILE, [{ name, settings }])).rejects.toThrow(
      new RegExp(
        `docs/results-images.json has models of '${name}' .*settings: .*"steps":${steps}.* now\\)\\. Choose another --report`,
      ),
    );
    const extractor = { name: 'raw-pixels', checksum: '0' };
    await expect(requireSameWay(JSON_FILE, [{ name, extractor }])).rejects.toThrow(
      /\(extractor: .* there, .*raw-pixels.* now\)/,
    );
    await requireSameWay(JSON_FILE, [{ name, settings: set.settings, extractor: null }]);
  });

  it('are what docs/results-images.md says', async () => {
    const sets = await mergedResults(JSON_FILE, []);
    expect(sets.map(({ name }) => name)).toEqual([...DEFAULT_SETS, 'emoji-24']);
    expect(await readFile('docs/results-images.md', 'utf8')).toBe(reportText(sets));
  });
});
