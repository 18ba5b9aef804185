import { describe, expect, it } from 'vitest';
import { DatasetError } from '../../src/errors.ts';
import { matchesPattern, parseDatasetCard } from '../../src/hub/dataset-card.ts';

describe('matchesPattern', () => {
  // fsspec's rules, as `datasets` uses them.
  it.each<[string, string, boolean]>([
    ['data/train-*', 'data/train-00000-of-00002.parquet', true],
    ['data/train-*', 'data/test-00000-of-00002.parquet', false],
    ['data/*.parquet', 'data/a/b.parquet', false],
    ['**/*.parquet', 'b.parquet', true],
    ['**/*.parquet', 'a/c/b.parquet', true],
    ['a/**/b.parquet', 'a/b.parquet', true],
    ['a/**/b.parquet', 'a/x/y/b.parquet', true],
    ['a/**/b.parquet', 'a/xb.parquet', false],
    ['data/**', 'data/x/y', true],
    ['t?st.parquet', 'test.parquet', true],
    ['t?st.parquet', 't/st.parquet', false],
    ['x[0-3].parquet', 'x2.parquet', true],
    ['x[0-3].parquet', 'x4.parquet', false],
    ['x[!0-3].parquet', 'x4.parquet', true],
    ['a.parquet', 'aXparquet', false],
    ['(a+)+$', '(a+)+$', true],
  ])('%s on %s: %s', (pattern, path, expected) => expect(matchesPattern(pattern, path)).toBe(expected));

  it('takes no time for a hostile pattern', () => {
    const start = process.cpuUsage();
    expect(matchesPattern(`${'*a'.repeat(200)}b`, 'a'.repeat(2000))).toBe(false);
    expect(process.cpuUsage(start).user / 1e6).toBeLessThan(2);
  });
});

describe('parseDatasetCard', () => {
  it('reads configurations of every documented form', async () => {
    const card = await parseDatasetCard(
      `---
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: ["data/test-*", ./more/*.parquet]
- config_name: plain
  data_files: "all/*.parquet"
- config_name: record
  data_files: {train: a.parquet, validation: [b.parquet]}
- config_name: folder
  data_dir: ./sub/
---
# A data set`,
      'x',
    );
    expect(
      card.configs.map(({ splits, ...rest }) => ({ ...rest, splits: splits && Object.fromEntries(splits) })),
    ).toEqual([
      {
        name: 'main',
        isDefault: true,
        folder: '',
        splits: { train: ['data/train-*'], test: ['data/test-*', 'more/*.parquet'] },
      },
      { name: 'plain', isDefault: false, folder: '', splits: { train: ['all/*.parquet'] } },
      { name: 'record', isDefault: false, folder: '', splits: { train: ['a.parquet'], validation: ['b.parquet'] } },
      { name: 'folder', isDefault: false, folder: 'sub', splits: undefined },
    ]);
  });

  it('reads the names of classes by number, of one configuration or of several', async () => {
    const features = `features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '10': k
          '2': c
          '0': a`;
    const one = await parseDatasetCard(`---\ndataset_info:\n  ${features.replaceAll('\n', '\n  ')}\n---\n`, 'x');
    expect(one.classNames('anything', 'label')).toEqual(['a', 'c', 'k']);
    expect(one.classNames('default', 'image')).toBeUndefined();
    const two = await parseDatasetCard(
      `---\ndataset_info:\n- config_name: big\n  ${features.replaceAll('\n', '\n  ')}\n- config_name: small\n---\n`,
      'x',
    );
    expect(two.classNames('big', 'label')).toEqual(['a', 'c', 'k']);
    expect(two.classNames('small', 'label')).toBeUndefined();
  });

  it.each(['', '# no header', '---\nlicense: mit\n---\n', '---\n---\n'])('%j says nothing', async (text) => {
    expect((await parseDatasetCard(text, 'x')).configs).toEqual([]);
  });

  it.each([
    '---\nconfigs: 1\n---\n',
    '---\nconfigs:\n- data_files: [[1]]\n---\n',
    '---\n: : [\n---\n',
    `---\na: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'.replace(/./g, (name, i) => `${name}: &${name} [${`*${'abcdefghi'[i]},`.repeat(9)}]\n`)}configs: *i\n---\n`,
  ])('%j is refused by name', async (text) => {
    await expect(parseDatasetCard(text, 'owner/set, README.md')).rejects.toThrow(DatasetError);
    await expect(parseDatasetCard(text, 'owner/set, README.md')).rejects.toThrow('owner/set, README.md: its header');
  });
});
