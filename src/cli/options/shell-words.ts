import { InvalidArgumentError } from '../../errors.ts';

/**
 * The words of a command as a POSIX shell takes it apart: blanks, quotes, backslashes, continued lines and comments. Nothing
 * is run, and nothing is expanded.
 *
 * @throws {InvalidArgumentError} for a quote without an end, and for what a shell would expand or run: the words would be
 * others than those that it makes.
 */
export function shellWords(command: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  const refuse = (what: string) => {
    throw new InvalidArgumentError(
      `the command has ${what}, which is not evaluated: put the value there, in a single command`,
    );
  };
  for (let i = 0; i < command.length; i++) {
    const character = command[i] as string;
    if (character === '\\') {
      i++;
      // A line that is continued.
      if (command[i] === '\r' && command[i + 1] === '\n') i++;
      else if (command[i] !== '\n' && i < command.length) word = (word ?? '') + command[i];
    } else if (character === "'" || character === '"') {
      const end = endOfQuote(command, i);
      const quoted = command.slice(i + 1, end);
      if (character === '"' && /(?<!\\)(\\\\)*[$`]/.test(quoted)) refuse(`'${shortened(quoted)}' in double quotes`);
      word = (word ?? '') + (character === '"' ? quoted.replaceAll(/\\(["\\$`])|\\\r?\n/g, '$1') : quoted);
      i = end;
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === '#' && word === undefined) {
      const end = command.indexOf('\n', i);
      i = end < 0 ? command.length : end;
    } else if (/[$`;&|<>()]/.test(character)) refuse(`'${shortened(command.slice(i))}'`);
    else word = (word ?? '') + character;
  }
  if (word !== undefined) words.push(word);
  return words;
}

function endOfQuote(command: string, start: number): number {
  const quote = command[start];
  for (let i = start + 1; i < command.length; i++) {
    if (command[i] === '\\' && quote === '"') i++;
    else if (command[i] === quote) return i;
  }
  throw new InvalidArgumentError(`the command has a quote without an end: ${shortened(command.slice(start))}`);
}

const shortened = (text: string) => (text.length > 30 ? `${text.slice(0, 30)}...` : text);

/** A word as a POSIX shell reads it back. */
export function shellQuoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
