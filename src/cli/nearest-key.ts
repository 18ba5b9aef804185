/** The key that a misspelt one most likely means: the smallest edit distance, or undefined where none is near. */
export function nearestKey(wrong: string, known: readonly string[]): string | undefined {
  // A long key is not worth measuring: nothing known is near it.
  const text = wrong.slice(0, 64).toLowerCase();
  const ranked = known
    .map((key) => ({ key, distance: editDistance(text, key) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance <= Math.max(2, best.key.length / 2) ? best.key : undefined;
}

/** Levenshtein's, row by row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
