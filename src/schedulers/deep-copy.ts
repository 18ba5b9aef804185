// How a scheduler copies its state, whatever a subclass keeps in it.

/** @param seen copies that were made already, so that what is shared within stays shared within the copy. */
export function deepCopy(value: unknown, seen: Map<object, unknown>): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const remember = <Copy>(copy: Copy): Copy => {
    seen.set(value, copy);
    return copy;
  };
  if ('clone' in value && typeof value.clone === 'function') return remember(value.clone());
  if (ArrayBuffer.isView(value)) return remember(copyOfView(value));
  if (value instanceof ArrayBuffer) return remember(value.slice(0));
  if (value instanceof Date) return remember(new Date(value));
  if (value instanceof Set) return remember(new Set([...value].map((inner) => deepCopy(inner, seen))));
  if (value instanceof Map)
    return remember(new Map([...value].map(([key, inner]) => [deepCopy(key, seen), deepCopy(inner, seen)])));
  const copy = remember(Array.isArray(value) ? [] : Object.create(Object.getPrototypeOf(value)));
  for (const [key, inner] of Object.entries(value)) copy[key] = deepCopy(inner, seen);
  return copy;
}

/** Unlike structuredClone of the realm that this code runs in, which need not be the main one (node:vm, as in Jest). */
function copyOfView(view: ArrayBufferView): ArrayBufferView {
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  const View = Reflect.get(globalThis, Reflect.get(view, Symbol.toStringTag));
  return new View(bytes);
}
