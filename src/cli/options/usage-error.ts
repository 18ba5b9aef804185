import type { Command, CommanderError } from 'commander';
import { nearestName } from '../../registry.ts';
import { longFlags } from './command-options.ts';
import { whyRefused } from './diffusers-flags.ts';
import { meantName } from './option-names.ts';

/**
 * What was wrong with the arguments, and what was most likely meant, as a line to print.
 *
 * @param verb the command that was named.
 */
export function usageErrorText({ code, message }: CommanderError, program: Command, verb: string | undefined): string {
  const [, wrong = ''] = /'-*([^'=]*)/.exec(message) ?? [];
  let meant: string | undefined;
  if (code === 'commander.unknownCommand') {
    const commands = program.commands.map((command) => command.name());
    meant = nearestName(wrong, commands);
  } else if (code === 'commander.unknownOption') {
    const reason = verb === 'train' ? whyRefused(wrong) : undefined;
    if (reason !== undefined) return `error: ${reason}\n`;
    const { options } = program.commands.find((command) => command.name() === verb) ?? program;
    const name = meantName(
      wrong.replaceAll('-', '_'),
      options.flatMap(({ flags }) => longFlags(flags)),
    );
    meant = name && `--${name.replaceAll('_', '-')}`;
  }
  // Help is an error too where no command is named, and has been printed.
  if (!message.startsWith('error:')) return '';
  return `${message}${meant === undefined ? '' : `. Did you mean '${meant}'?`}\n`;
}
