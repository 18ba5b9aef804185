/**
 * Class numbers of the images of a set. Class names are numbered in the order of their code units, as
 * torchvision's `ImageFolder` numbers them.
 */
export class LabelNumbers {
  readonly #labels: (number | string | undefined)[] = [];

  add(label: number | string | undefined): void {
    this.#labels.push(label);
  }

  /** One number an image; undefined unless every image has a label, all of one kind, of more than one name. */
  numbers(): Int32Array | undefined {
    const labels = this.#labels;
    if (labels.every((label) => typeof label === 'number')) return Int32Array.from(labels);
    if (!labels.every((label) => typeof label === 'string')) return undefined;
    const names = [...new Set(labels)].sort();
    if (names.length < 2) return undefined;
    const numberOf = new Map(names.map((name, i) => [name, i]));
    return Int32Array.from(labels, (label) => numberOf.get(label) as number);
  }
}
