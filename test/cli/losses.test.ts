import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { shellWords } from '../../src/cli/options/shell-words.ts';
import { runHere } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-losses-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The commands of a guide. */
function commandsOf(guide: string): string[] {
  const text = readFileSync(new URL(`../../docs/${guide}.md`, import.meta.url), 'utf8');
  return [...text.matchAll(/```bash\n([\s\S]*?)```/g)].flatMap(([, block = '']) => block.trim().split('\n'));
}

/** Few points, and neither plots nor samples. */
const QUICK = ['--device', 'cpu', '--n', '200', '--report-to', 'tensorboard', '--sample-every', '0'];

/** Runs a command of a guide, and returns what its checkpoint says of the run. */
async function recorded(command: string, output: string): Promise<{ loss: unknown; arguments: object }> {
  const words = shellWords(command).slice(2);
  const { code, stderr } = await runHere([...words.slice(0, -1), output, ...QUICK]);
  expect([code, stderr]).toEqual([0, '']);
  const checkpoint = readdirSync(output).find((name) => name.startsWith('checkpoint-')) ?? '';
  return JSON.parse(readFileSync(path.join(output, checkpoint, 'trainer_state.json'), 'utf8')).state.run;
}

const sgd = { optim: 'sgd', learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0 };
const lion = { optim: 'lion', learning_rate: 1e-4, lion_beta1: 0.9, lion_beta2: 0.99, weight_decay: 0 };

describe('docs/optimizers.md', () => {
  it.each([
    [0, lion],
    [1, sgd],
    [2, { optim: 'adam', use_ema: true, use_ema_warmup: false, ema_update_after_step: 5 }],
  ])('command %i trains with the optimizer that it names', async (index, args) => {
    const commands = commandsOf('optimizers');
    expect(commands).toHaveLength(3);
    const run = await recorded(commands[index] ?? '', path.join(folder, `optimizer-${index}`));
    expect(run.arguments).toMatchObject(args);
  });
});

describe('docs/losses.md', () => {
  it.each([
    [0, { name: 'iso', lambda: 0.1, base: { name: 'min-snr', snr_gamma: 5 } }],
    [1, { name: 'iso', lambda: 0.1, base: { name: 'huber', delta: 0.5 } }],
    [2, { name: 'p2', p2_gamma: 0.5, p2_k: 1 }],
  ])('command %i trains with the loss that it names', async (index, loss) => {
    const run = await recorded(commandsOf('losses')[index] ?? '', path.join(folder, String(index)));
    expect(run.loss).toEqual(loss);
  });

  it('has a command that changes the noise', async () => {
    const commands = commandsOf('losses');
    expect(commands).toHaveLength(4);
    const run = await recorded(commands[3] ?? '', path.join(folder, 'noise'));
    expect(run.arguments).toMatchObject({ noise_offset: 0.1, input_perturbation: 0.1 });
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
