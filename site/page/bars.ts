import type { Quality } from '../messages.ts';
import { type Both, SIDES } from './experiment.ts';

const MEANINGS: Readonly<Record<keyof Quality, readonly [title: string, meaning: string]>> = {
  precision: ['Precision', 'How many drawn points lie near a point of the data.'],
  recall: ['Recall', 'How many points of the data lie near a drawn point.'],
  density: ['Density', 'How closely drawn points lie to the data, counted in neighbourhoods; it can pass 1.'],
  coverage: ['Coverage', 'How many points of the data have a drawn point among their nearest neighbours.'],
};
const NAMES = Object.keys(MEANINGS) as (keyof Quality)[];
/** The right end of the bars. */
const LARGEST = 1.2;

/** Four measures of both models as bars, each with a sentence on what it means. */
export class Bars {
  private readonly cells = new Map<string, { readonly bar: HTMLElement; readonly number: HTMLElement }>();

  constructor(parent: HTMLElement) {
    for (const name of NAMES) {
      const [title, meaning] = MEANINGS[name];
      const block = parent.appendChild(element('div'));
      block.append(element('h3', title), element('p', meaning));
      for (const side of SIDES) {
        const row = block.appendChild(element('div'));
        row.className = 'bar';
        const bar = element('i');
        bar.className = side;
        const track = element('span');
        track.append(bar);
        const number = element('span', '–');
        row.append(track, number);
        this.cells.set(`${name}/${side}`, { bar, number });
      }
    }
  }

  /** @param quality undefined shows that nothing is measured. */
  show(quality: Both<Quality> | undefined): void {
    for (const name of NAMES)
      for (const side of SIDES) {
        const cell = this.cells.get(`${name}/${side}`);
        const value = quality?.[side][name];
        if (!cell) continue;
        cell.bar.style.width = `${(100 * Math.min(LARGEST, value ?? 0)) / LARGEST}%`;
        cell.number.textContent = value?.toFixed(3) ?? '–';
      }
  }
}

function element(tag: string, text = ''): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
