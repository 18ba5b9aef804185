import type { Command } from 'commander';
import { InvalidArgumentError } from '../../errors.ts';
import { didYouMean } from '../options/command-options.ts';
import { DIFFUSERS_FLAGS, type DiffusersFlag, type FlagValue, type FlagValues } from '../options/diffusers-flags.ts';
import { shellQuoted, shellWords } from '../options/shell-words.ts';
import { formatTable } from '../ui/table.ts';

export function defineFromDiffusers(command: Command): void {
  command
    .argument('<command...>', 'the command in quotes, or its words')
    .allowUnknownOption()
    .addHelpText(
      'after',
      `
Example:
  iso-diffusion from-diffusers "accelerate launch train_unconditional.py --dataset_name=huggan/flowers-102-categories \\
    --resolution=64 --center_crop --random_flip --use_ema --mixed_precision=no"

Nothing is run. Where the script has a flag that we have too, train takes it under the script's name as well, with our own
defaults. docs/from-diffusers.md has all flags.`,
    )
    .action((words: string[]) => console.log(equivalentCommand(words)));
}

/** What is printed for the words of a command, or for a single text that has them all. */
function equivalentCommand(given: readonly string[]): string {
  const words = given.length === 1 ? shellWords(given[0] ?? '') : given;
  const { launcher, flags } = scriptArguments(words);
  const { values, isGiven } = parsedFlags(flags);
  if (values.dataset_name === null && values.train_data_dir === null)
    throw new InvalidArgumentError(
      'the command has neither --dataset_name nor --train_data_dir, and the script needs one',
    );
  const lines: string[][] = [];
  for (const flag of DIFFUSERS_FLAGS) lines.push([...(flag.words?.(values, isGiven(flag)) ?? [])]);
  // What the script does without having a flag for it.
  lines.push(['--channels', '3'], ['--lambda', '0']);
  const command = lines.filter((line) => line.length > 0).map((line) => line.map(shellQuoted).join(' '));
  const noted = DIFFUSERS_FLAGS.filter(
    (flag) => flag.note !== '' && (flag.notedAt ?? givenOnly)(values, isGiven(flag)),
  );
  const notes = [
    ...(launcher.length > 0 ? [`${launcher.join(' ')}: the launcher's own; one process trains on one device`] : []),
    ...noted.map(({ name, note }) => `--${name}: ${note.replaceAll('`', '')}`),
    'images: the script makes all of them RGB, so --channels 3; it resizes them as we do, bilinearly and antialiased',
    'gradients: the script clips their norm to 1, which is our default for images',
    'loss: the script has no isotropy penalty, so --lambda 0; leave it out for our default of 0.05',
    "batches: the script's last one of an epoch is smaller; ours is filled from the beginning of the epoch's order",
    'seed: the script sets none; ours is 0, and the same seed gives the same weights',
  ];
  return [
    `iso-diffusion train ${command.join(' \\\n  ')}`,
    flagTable(values, isGiven),
    `What differs:\n${notes.map((note) => `- ${note}`).join('\n')}`,
  ].join('\n\n');
}

const givenOnly = (_: FlagValues, given: boolean) => given;

/** Everything behind the script's name; without one, all words. */
function scriptArguments(words: readonly string[]): { launcher: readonly string[]; flags: readonly string[] } {
  const script = words.findIndex((word) => word.endsWith('.py'));
  const launcher = words.slice(0, Math.max(script, 0)).filter((word) => word.startsWith('--'));
  const name = words[script]?.split(/[\\/]/).at(-1);
  if (name !== undefined && name !== 'train_unconditional.py')
    throw new InvalidArgumentError(`the command runs ${name}: only diffusers' train_unconditional.py is known`);
  return { launcher, flags: words.slice(script + 1) };
}

/** The values of all flags, by the rules of Python's argparse. */
function parsedFlags(words: readonly string[]) {
  const given = new Map<string, FlagValue>();
  for (let i = 0; i < words.length; i++) {
    const [, written = '', inline] = /^--([\w-]+)(?:=(.*))?$/s.exec(words[i] ?? '') ?? [];
    if (written === '') throw new InvalidArgumentError(`'${words[i]}' is not a flag: the script takes flags alone`);
    const flag = flagNamed(written.replaceAll('-', '_'));
    if (flag.type === 'switch') {
      if (inline !== undefined) throw new InvalidArgumentError(`--${flag.name} takes no value, but has '${inline}'`);
      given.set(flag.name, true);
      continue;
    }
    const text = inline ?? words[++i];
    if (text === undefined || (inline === undefined && text.startsWith('--')))
      throw new InvalidArgumentError(`--${flag.name} needs a value`);
    given.set(flag.name, flagValue(flag, text));
  }
  const values: FlagValues = Object.fromEntries(
    DIFFUSERS_FLAGS.map(({ name, default: standard }) => [name, given.get(name) ?? standard]),
  );
  return { values, isGiven: ({ name }: DiffusersFlag) => given.has(name) };
}

/** argparse also takes the beginning of a name where no other begins so. */
function flagNamed(written: string): DiffusersFlag {
  const exact = DIFFUSERS_FLAGS.find(({ name }) => name === written);
  const [begun, another] = DIFFUSERS_FLAGS.filter(({ name }) => name.startsWith(written));
  const flag = exact ?? (another === undefined ? begun : undefined);
  if (flag) return flag;
  const near = didYouMean(
    written,
    DIFFUSERS_FLAGS.map(({ name }) => name),
  );
  throw new InvalidArgumentError(`--${written} is not a flag of diffusers' train_unconditional.py.${near}`);
}

/** @throws {InvalidArgumentError} for a value that Python would refuse. */
function flagValue({ name, type, choices }: DiffusersFlag, text: string): FlagValue {
  if (choices && !choices.includes(text))
    throw new InvalidArgumentError(`--${name} is '${text}', but the script takes ${choices.join(', ')}`);
  if (type === 'str') return text;
  const plain = text.trim().replaceAll(/(?<=\d)_(?=\d)/g, '');
  const pattern = type === 'int' ? /^[+-]?\d+$/ : /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  if (pattern.test(plain)) return Number(plain);
  throw new InvalidArgumentError(
    `--${name} is '${text}', but must be ${type === 'int' ? 'a whole number' : 'a number'}`,
  );
}

function flagTable(values: FlagValues, isGiven: (flag: DiffusersFlag) => boolean): string {
  const rows = DIFFUSERS_FLAGS.map((flag) => {
    const { name, here, ours } = flag;
    const value = name === 'hub_token' && isGiven(flag) ? '(hidden)' : (values[name] ?? 'none');
    return [`--${name}`, String(value), isGiven(flag) ? 'given' : 'default', here.replaceAll('`', '') || 'none', ours];
  });
  return formatTable(['flag of the script', 'value', '', 'here', 'our default'], rows);
}
