import type { Curves } from './run-page.ts';

/** Points of a curve that are kept: of more, neighbours become their mean. */
const MOST_POINTS = 512;

interface Bucket {
  /** The last step in it. */
  readonly step: number;
  readonly count: number;
  readonly sums: ReadonlyMap<string, number>;
}

/**
 * The curves of a run of any length in bounded memory. A point is the mean of as many records as every other point. What is
 * kept follows from the records and their order alone: a resumed run has the curves of an unbroken one.
 */
export class CurveRecord {
  private readonly names = new Set<string>();
  private buckets: Bucket[] = [];
  /** Records in a bucket. */
  private size = 1;

  add(step: number, values: Readonly<Record<string, number>>): void {
    for (const name of Object.keys(values)) this.names.add(name);
    const bucket = { step, count: 1, sums: new Map(Object.entries(values)) };
    const last = this.buckets.at(-1);
    if (last && last.count < this.size) this.buckets[this.buckets.length - 1] = merged(last, bucket);
    else this.buckets.push(bucket);
    if (this.buckets.length <= MOST_POINTS) return;
    this.size *= 2;
    const pairs = this.buckets.filter((_, i) => i % 2 === 0);
    this.buckets = pairs.map((first, i) => {
      const second = this.buckets[2 * i + 1];
      return second ? merged(first, second) : first;
    });
  }

  curves(): Curves {
    const values = [...this.names].map((name) => {
      const means = this.buckets.map(({ count, sums }) => (sums.get(name) ?? Number.NaN) / count);
      return [name, means] as const;
    });
    return { step: this.buckets.map(({ step }) => step), values: Object.fromEntries(values) };
  }
}

function merged(first: Bucket, second: Bucket): Bucket {
  const names = new Set([...first.sums.keys(), ...second.sums.keys()]);
  const sum = (name: string) => (first.sums.get(name) ?? Number.NaN) + (second.sums.get(name) ?? Number.NaN);
  return {
    step: second.step,
    count: first.count + second.count,
    sums: new Map([...names].map((name) => [name, sum(name)])),
  };
}
