import { InvalidArgumentError } from './errors.ts';

/*
 * Arguments of a wrong type, which plain JavaScript lets through. All throw an InvalidArgumentError that says what was
 * given; `what` is the argument in words.
 */

export function requireObject(what: string, value: unknown): void {
  if (typeof value !== 'object' || value === null) refuseType(what, 'an object', value);
}

/** An array, a typed array of any realm, or another object with a length. */
export function requireArray(what: string, value: unknown): void {
  const isArray = typeof value === 'object' && value !== null && 'length' in value;
  if (!isArray) refuseType(what, 'an array', value);
}

export function requireText(what: string, value: unknown): void {
  if (typeof value !== 'string' || value === '') refuseType(what, 'a text that is not empty', value);
}

export function requireBoolean(what: string, value: unknown): void {
  if (typeof value !== 'boolean') refuseType(what, 'true or false', value);
}

export function requireFunction(what: string, value: unknown): void {
  if (typeof value !== 'function') refuseType(what, 'a function', value);
}

function refuseType(what: string, wanted: string, value: unknown): never {
  const given =
    value === '' ? 'empty' : value === null || value === undefined ? String(value) : `of type ${typeof value}`;
  throw new InvalidArgumentError(`${what} must be ${wanted}, but is ${given}`);
}
