import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIFFUSERS_FLAGS, type DiffusersFlag } from '../../src/cli/options/diffusers-flags.ts';
import { shellQuoted, shellWords } from '../../src/cli/options/shell-words.ts';
import { outputOptions, trainingArguments, trainingOptions } from '../../src/cli/options/training-options.ts';
// Made by test/fixtures/diffusers/make.py from the script itself.
import script from '../fixtures/diffusers/train_unconditional.json' with { type: 'json' };
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { runHere } from './run-cli.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-from-diffusers-'));
  await mkdir(path.join(folder, 'photos'));
  const grey = sharp({ create: { width: 12, height: 8, channels: 3, background: '#888' } }).png();
  for (const name of ['a.png', 'b.png', 'c.png', 'd.png']) await grey.toFile(path.join(folder, 'photos', name));
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(tinyUNetConfig));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the table of flags', () => {
  it("has every flag of the script, with the script's types, defaults and choices", () => {
    const ours = DIFFUSERS_FLAGS.map(({ name, type, default: standard, choices = null }) => ({
      ...{ name, type, default: standard, choices },
    }));
    expect(script.flags).toHaveLength(45);
    expect(ours).toEqual(script.flags);
  });

  it('has our defaults', () => {
    const settings = { ...trainingOptions, ...outputOptions };
    const parsed = Object.fromEntries(
      Object.entries(settings).map(([key, { schema }]) => [key, schema.safeParse(undefined).data]),
    );
    const defaults: Record<string, unknown> = { ...trainingArguments('images', parsed as never), weight_decay: 0 };
    const compared = DIFFUSERS_FLAGS.filter(({ option }) => option !== undefined && option in defaults);
    expect(compared.length).toBeGreaterThan(15);
    for (const { option = '', ours } of compared) expect([option, ours]).toEqual([option, String(defaults[option])]);
  });

  it('train takes every flag that has an option, by its name', async () => {
    const accepted = DIFFUSERS_FLAGS.filter(({ option }) => option !== undefined);
    expect(accepted).toHaveLength(36);
    const written = ({ name, type, default: standard }: DiffusersFlag) =>
      type === 'switch' ? [`--${name}`] : [`--${name}`, `${standard ?? 1}`];
    // Both name the data set.
    for (const left of ['dataset_name', 'train_data_dir']) {
      const flags = accepted.filter(({ name }) => name !== left).flatMap(written);
      // The scaling is read after all flags are known.
      const { stderr } = await runHere(['train', ...flags, '--scaling', 'wrong']);
      expect(stderr).toMatch(/^error: option --scaling/);
    }
  });

  it.each(DIFFUSERS_FLAGS.filter(({ option }) => option === undefined).map(({ name }) => name))(
    'train says why it has no --%s, also in a config file',
    async (name) => {
      const { code, stderr } = await runHere(['train', `--${name}`, '1']);
      expect([code, stderr]).toEqual([2, expect.stringContaining(`'${name}' of diffusers' script is not an option`)]);
      const config = path.join(folder, 'config.yaml');
      await writeFile(config, `${name}: 1\n`);
      const read = await runHere(['train', '--config', config]);
      expect(read.stderr).toContain(`config.yaml: '${name}' of diffusers' script is not an option here`);
    },
  );

  it.each([
    [['--num_epochs', '1', '--epochs', '2'], '--epochs and --num-epochs'],
    [['--learning_rate', '1', '--lr', '1'], '--learning-rate and --lr'],
    [['--dataset_name', 'a/b', '--train_data_dir', 'c'], '--dataset-name and --train-data-dir'],
  ])('%j are two names of one option', async (flags, both) => {
    const { code, stderr } = await runHere(['train', ...flags]);
    const [first = '', second = ''] = both.split(' and ');
    expect(code).toBe(2);
    expect(stderr).toMatch(/are one option: leave one out/);
    expect(stderr).toContain(first);
    expect(stderr).toContain(second);
  });

  it('a crop is chosen once', async () => {
    const { stderr } = await runHere(['train', '--dataset', 'digits', '--center_crop', '--random-crop']);
    expect(stderr).toContain('--center-crop and --random-crop exclude each other');
  });

  // `npx vitest run test/cli/from-diffusers.test.ts -u` writes the file anew.
  it('is in docs/from-diffusers.md', async () => {
    const rows = DIFFUSERS_FLAGS.map(({ name, default: standard, here, option, ours, note }) => [
      `\`--${name}\``,
      standard === null ? '' : `\`${standard}\``,
      option === undefined ? 'no' : 'yes',
      here,
      ours === '' ? '' : `\`${ours}\``,
      note,
    ]);
    const head = ['flag', "the script's default", 'taken', 'here', 'our default', 'what differs'];
    const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]?.length ?? 0)));
    const line = (cells: readonly string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
    const table = [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
    await expect(guide(table)).toMatchFileSnapshot('../../docs/from-diffusers.md');
  });
});

const guide = (table: string) => `# From diffusers' training script

\`from-diffusers\` takes a command of diffusers' \`examples/unconditional_image_generation/train_unconditional.py\` and prints the
\`iso-diffusion train\` that does the same, each flag with the script's default and ours, and what differs. Nothing is run.

\`\`\`bash
npx iso-diffusion from-diffusers "accelerate launch train_unconditional.py --dataset_name=huggan/flowers-102-categories
  --resolution=64 --center_crop --random_flip --use_ema --learning_rate=1e-4 --mixed_precision=no"
\`\`\`

The command is taken apart as a shell does. Quotes, backslashes and continued lines are known. Variables and everything else
that a shell would evaluate are refused: put their values there.

\`train\` also takes the script's flags by their own names, with \`-\` or \`_\`, where it has the option: the column "taken". Our
defaults then hold for all that is not given, the isotropy penalty among them. So a command that is only renamed does not train
the same; the one that \`from-diffusers\` prints does, as far as the last column says. Two names of one option in one
command are an error.

The table has all 45 flags of the script at commit \`${script.commit.slice(0, 7)}\`. \`test/cli/from-diffusers.test.ts\` writes it, and checks
it against the script's own parser.

${table}

What the script does without a flag for it:

- It makes all images RGB, so the printed command has \`--channels 3\`. It resizes them as we do: the shorter side, bilinearly
  and antialiased.
- It clips the norm of gradients to 1, which is our default for images.
- It has no isotropy penalty, so the printed command has \`--lambda 0\`. Leave that out to train with our default, 0.05.
- Its last batch of an epoch is smaller. Ours is filled from the beginning of the epoch's order; both have as many steps.
- It sets no seed. Ours is 0, and the same seed gives the same weights.
`;

/** What is printed for a command of the script, and the words of the command in it. */
async function translated(...command: readonly string[]) {
  const { code, stdout, stderr } = await runHere(['from-diffusers', ...command]);
  const [line = ''] = stdout.split('\n\n');
  return { code, stdout, stderr, words: code === 0 ? shellWords(line) : [] };
}

describe('from-diffusers', () => {
  it('prints a command that trains as the script does', async () => {
    const { words, stdout } = await translated(
      `accelerate launch --mixed_precision="fp16" train_unconditional.py \\
        --train_data_dir='${folder}/photos' --output_dir="${folder}/run" \\
        --model_config_name_or_path ${folder} --resolution=8 --random_flip --train_batch_size=2 --num_epochs 1 --use_ema`,
    );
    expect(words.slice(0, 2)).toEqual(['iso-diffusion', 'train']);
    expect(stdout).toContain("--mixed_precision=fp16: the launcher's own");
    const trained = await runHere([...words.slice(1), '--sample-every', '0', '--device', 'cpu']);
    expect(trained).toMatchObject({ code: 0, stdout: expect.stringContaining('4 images of 8x8x3') });
    const card = (await readFile(path.join(folder, 'run/pipeline/README.md'), 'utf8')).replaceAll('&#95;', '_');
    // The script's defaults, but for the batch.
    const settings = {
      ...{ steps: 2, per_device_train_batch_size: 2, random_flip: true, learning_rate: 0.0001, warmup_steps: 500 },
      ...{ lr_scheduler_type: 'cosine', optim: 'adamw', adam_beta1: 0.95, adam_beta2: 0.999, weight_decay: 0.000001 },
      ...{ adam_epsilon: 1e-8, max_grad_norm: 1, use_ema: true, ema_max_decay: 0.9999, ema_power: 0.75 },
    };
    for (const [name, value] of Object.entries(settings)) expect(card).toContain(`| ${name} | ${value} |`);
    expect(card).toMatch(/\| loss \| .*"lambda":0,/);
    const scheduler = JSON.parse(
      await readFile(path.join(folder, 'run/pipeline/scheduler/scheduler_config.json'), 'utf8'),
    );
    expect(scheduler).toMatchObject({ num_train_timesteps: 1000, beta_schedule: 'linear', prediction_type: 'epsilon' });
  }, 60_000);

  it('takes the words without quotes, and the beginnings of names, as argparse does', async () => {
    const quoted = await translated('train_unconditional.py --dataset_name=a/b --num_ep 7 --ddpm_beta=scaled_linear');
    const bare = ['python', 'x/train_unconditional.py', '--dataset_name=a/b', '--num_ep', '7'];
    expect((await translated(...bare, '--ddpm_beta=scaled_linear')).stdout).toBe(quoted.stdout);
    expect(quoted.words.join(' ')).toContain('--dataset a/b');
    expect(quoted.words.join(' ')).toContain('--epochs 7');
    expect(quoted.words.join(' ')).toContain('--beta-schedule scaled_linear');
  });

  it.each([
    ['--lr_scheduler=constant', '--lr-scheduler-type constant', '--warmup-steps'],
    ['--lr_scheduler=constant_with_warmup', '--lr-scheduler-type constant_with_warmup --warmup-steps 500', 'cosine'],
    ['--lr_scheduler=polynomial', '--lr-scheduler-type polynomial --warmup-steps 500', 'linear'],
    ['--prediction_type=sample', '--prediction-type sample --base-loss snr', 'epsilon'],
    ['--prediction_type=epsilon', '--dataset a/b', '--base-loss'],
    ['--lr_warmup_steps=0', '--lr-scheduler-type cosine', '--warmup-steps'],
    ['--gradient_accumulation_steps=4', '--warmup-steps 2000', '--warmup-steps 500'],
    ['--center_crop', '--center-crop', '--random-crop'],
    ['', '--random-crop', '--center-crop'],
    ['--resume_from_checkpoint=x/checkpoint-500/', '--resume ddpm-model-64/checkpoint-500', 'x/'],
    ['--resume_from_checkpoint=latest', '--resume latest', 'ddpm-model-64/latest'],
    ['--checkpoints_total_limit=3', '--save-total-limit 3', '--save-total-limit 2'],
    ['--model_config_name_or_path=owner/unet', '--model owner/unet', '--model default'],
    ['--hub_token=hf_secret --push_to_hub', '--push-to-hub', 'hf_secret'],
  ])('%s becomes %s', async (flags, expected, absent) => {
    const { words, stdout } = await translated(`train_unconditional.py --dataset_name=a/b ${flags}`);
    expect(words.join(' ')).toContain(expected);
    expect(words.join(' ')).not.toContain(absent);
    expect(stdout).not.toContain('hf_secret');
  });

  it.each([
    ['--train_batch_size=16', /neither --dataset_name nor --train_data_dir/],
    ['--dataset_name', /--dataset_name needs a value/],
    ['--dataset_name --use_ema', /--dataset_name needs a value/],
    ['--resolution=64.5', /--resolution is '64\.5', but must be a whole number/],
    ['--learning_rate=fast', /--learning_rate is 'fast', but must be a number/],
    ['--mixed_precision=int8', /the script takes no, fp16, bf16/],
    ['--use_ema=yes', /--use_ema takes no value/],
    ['--datasetname=x', /not a flag .* Did you mean 'dataset_name'/],
    ['--adam=1', /--adam is not a flag/],
    ['--seed=1', /--seed is not a flag/],
    ['x', /'x' is not a flag/],
    ['--dataset_name=$NAME', /'\$NAME', which is not evaluated/],
    ['--dataset_name="$(rm x)"', /in double quotes, which is not evaluated/],
    ['--dataset_name=x; rm y', /'; rm y', which is not evaluated/],
    ['--dataset_name="x', /a quote without an end/],
  ])('refuses %s', async (flags, message) => {
    expect(await translated(`train_unconditional.py ${flags}`)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(message),
    });
  });

  it('knows no other script', async () => {
    const { stderr } = await translated('python train_dreambooth.py --dataset_name=x');
    expect(stderr).toContain('the command runs train_dreambooth.py');
  });
});

describe('shellWords', () => {
  it.each([
    [`a --x="b c" --y='d e'\\'' f' g\\ h`, ['a', '--x=b c', "--y=d e' f", 'g h']],
    ['a \\\n  b # a comment\n c', ['a', 'b', 'c']],
    [`"a\\"b\\\\c\\d\\$e" x""y '' `, ['a"b\\c\\d$e', 'xy', '']],
    [`a'b'"c"d e#f`, ['abcd', 'e#f']],
    ['a\\\r\n b', ['a', 'b']],
  ])('%j', (command, words) => expect(shellWords(command)).toEqual(words));

  it('takes apart what a shell does, and quotes for it', () => {
    const part = fc.constantFrom(
      'a',
      'b',
      ' ',
      '"',
      "'",
      '\\a',
      '\\\\',
      '\\"',
      "\\'",
      '\\\n',
      '-',
      '=',
      '"b c"',
      "'d e'",
      '#',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 10 }), (parts) => {
        const command = `${parts.join('')} `;
        // A comment ends at every end of a line, where a shell ends the command too.
        fc.pre(!(command.includes('#') && command.includes('\\\n')));
        const shell = spawnSync('sh', ['-c', `set -- ${command}\nfor word do printf '%s\\0' "$word"; done`]);
        let words: string[] | undefined;
        try {
          words = shellWords(command);
        } catch {
          expect(shell.status).not.toBe(0);
          return;
        }
        expect(words).toEqual(`${shell.stdout}`.split('\0').slice(0, -1));
        expect(shellWords(words.map(shellQuoted).join(' '))).toEqual(words);
      }),
      { numRuns: 100 },
    );
  });
});
