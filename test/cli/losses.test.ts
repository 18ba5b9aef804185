import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { shellWords } from '../../src/cli/options/shell-words.ts';
import { runHere } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-losses-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const text = readFileSync(new URL('../../docs/losses.md', import.meta.url), 'utf8');
const commands = [...text.matchAll(/```bash\n([\s\S]*?)```/g)].flatMap(([, block = '']) => block.trim().split('\n'));

/** Few points, and neither plots nor samples. */
const QUICK = ['--device', 'cpu', '--n', '200', '--report-to', 'tensorboard', '--sample-every', '0'];

describe('docs/losses.md', () => {
  it.each([
    [0, { name: 'iso', lambda: 0.1, base: { name: 'min-snr', snr_gamma: 5 } }],
    [1, { name: 'iso', lambda: 0.1, base: { name: 'huber', delta: 0.5 } }],
    [2, { name: 'p2', p2_gamma: 0.5, p2_k: 1 }],
  ])('command %i trains with the loss that it names', async (index, loss) => {
    expect(commands).toHaveLength(3);
    const words = shellWords(commands[index] ?? '').slice(2);
    const output = path.join(folder, String(index));
    const { code, stderr } = await runHere([...words.slice(0, -1), output, ...QUICK]);
    expect([code, stderr]).toEqual([0, '']);
    const checkpoint = readdirSync(output).find((name) => name.startsWith('checkpoint-')) ?? '';
    const state = readFileSync(path.join(output, checkpoint, 'trainer_state.json'), 'utf8');
    expect(JSON.parse(state).state.run.loss).toEqual(loss);
  });

  it.each([
    ['--base-loss nonsense', /loss "nonsense" is not known: use simple, iso/],
    ['--loss p2 --base-loss l1', /--base-loss belongs to --loss iso, but the loss is 'p2'/],
    ['--base-loss {"name":"huber","delta":0}', /delta of the Huber loss must be a finite number > 0, but is 0/],
  ])('%s is refused', async (flags, message) => {
    const { code, stderr } = await runHere(['train', ...flags.split(' '), '--output', path.join(folder, 'none')]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
    expect(readdirSync(folder)).not.toContain('none');
  });
});
