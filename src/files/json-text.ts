/** A value that JSON can hold. */
export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };
export type JsonObject = { [key: string]: JsonValue };

/** Deeper text is refused, so that no recursive reader of it can exhaust the stack. */
const maxDepth = 200;

/**
 * Parses JSON from UTF-8 bytes that are not trusted: invalid UTF-8, repeated keys in an object (of which `JSON.parse`
 * silently takes the last) and nesting deeper than 200 are refused.
 *
 * @throws SyntaxError that says what is wrong; callers turn it into the error of their file format.
 */
export function parseStrictJson(bytes: Uint8Array): JsonValue {
  const text = decodeUtf8(bytes);
  // Before JSON.parse: parsing first would build the deep structure that is to be refused.
  checkDepth(text);
  const value = JSON.parse(text) as JsonValue;
  const repeated = findRepeatedKey(text);
  if (repeated !== undefined) throw new SyntaxError(`the key ${JSON.stringify(repeated)} appears twice`);
  return value;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new SyntaxError('the text is not valid UTF-8', { cause: error });
  }
}

function checkDepth(text: string): void {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '"') i = endOfString(text, i);
    else if (character === '{' || character === '[') {
      depth++;
      if (depth > maxDepth) throw new SyntaxError(`nested deeper than ${maxDepth}`);
    } else if (character === '}' || character === ']') depth--;
  }
}

/** The first key that occurs twice in one object of `text`, which must be valid JSON. */
function findRepeatedKey(text: string): string | undefined {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{') open.push(new Set());
    else if (character === '}') open.pop();
    else if (character === '"') {
      const end = endOfString(text, i);
      const keys = open.at(-1);
      if (keys !== undefined && isFollowedByColon(text, end + 1)) {
        const key = JSON.parse(text.slice(i, end + 1)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      i = end;
    }
  }
  return undefined;
}

/** Index of the quote that closes the string which opens at `start`, or the text's length if none does. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 92) i++;
    else if (code === 34) return i;
  }
  return text.length;
}

function isFollowedByColon(text: string, start: number): boolean {
  let i = start;
  while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i++;
  return text[i] === ':';
}
