import { SYNTHETIC_SETS } from '../../src/datasets/points/synthetic.ts';

/** What is learned. */
export const TABS = ['points', 'images'] as const;
/** What the panels show: the points as they are now, or a moment of one of the two processes. */
export const VIEWS = ['live', 'reverse', 'forward'] as const;
export const OWN_SET = 'own';
export const SETS = Object.keys(SYNTHETIC_SETS);
export const BATCH_SIZES = [64, 128, 256, 512];
export const RATES = [1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 3e-2];
/** More points than this do not fit into a link. */
const MAX_LINKED_POINTS = 600;
/** Coordinates in a link are whole numbers up to this. */
const LINK_SCALE = 2 ** 15 - 1;

/** All that the page shows follows from this, and it is in the URL. */
export interface PageState {
  readonly tab: (typeof TABS)[number];
  readonly set: string;
  /** x and y of the user's own points; only with the set 'own'. */
  readonly own: Float64Array | undefined;
  readonly seed: number;
  readonly batch: number;
  readonly lambda: number;
  readonly rate: number;
  readonly view: (typeof VIEWS)[number];
  /** Where in the process, 0 to 1. */
  readonly time: number;
  readonly paths: boolean;
  /** Whether the model without penalty is shown with lambda put on when drawing. */
  readonly predicted: boolean;
  /** Steps that were taken; a page that is opened with them takes them again. */
  readonly steps: number;
}

export const FIRST_STATE: PageState = {
  tab: 'points',
  set: 'swiss-roll',
  own: undefined,
  seed: 0,
  batch: 128,
  lambda: 0.1,
  rate: 0.003,
  view: 'live',
  time: 1,
  paths: false,
  predicted: false,
  steps: 0,
};

export function toHash(state: PageState): string {
  const { own, paths, predicted, ...others } = state;
  const entries = Object.entries(others).map(([name, value]): [string, string] => [name, String(value)]);
  const hash = new URLSearchParams([...entries, ['paths', paths ? '1' : '0'], ['predicted', predicted ? '1' : '0']]);
  if (state.set === OWN_SET && own && own.length <= 2 * MAX_LINKED_POINTS) hash.set('own', encodePoints(own));
  return `#${hash}`;
}

/** Reads a link. What is missing or out of range is as it is at first. */
export function fromHash(hash: string): PageState {
  const given = new URLSearchParams(hash.replace(/^#/, ''));
  const number = (name: 'seed' | 'lambda' | 'time' | 'steps', most: number, whole = false) => {
    const value = Number(given.get(name) ?? Number.NaN);
    const fits = value >= 0 && value <= most && (!whole || Number.isInteger(value));
    return fits ? value : FIRST_STATE[name];
  };
  const own = decodePoints(given.get('own'));
  const set = given.get('set') ?? '';
  const batch = Number(given.get('batch'));
  const rate = Number(given.get('rate'));
  return {
    tab: given.get('tab') === 'images' ? 'images' : 'points',
    set: SETS.includes(set) || (set === OWN_SET && own) ? set : FIRST_STATE.set,
    own,
    seed: number('seed', 2 ** 31, true),
    batch: BATCH_SIZES.includes(batch) ? batch : FIRST_STATE.batch,
    lambda: number('lambda', 1),
    rate: RATES.includes(rate) ? rate : FIRST_STATE.rate,
    view: VIEWS.find((view) => view === given.get('view')) ?? FIRST_STATE.view,
    time: number('time', 1),
    paths: given.get('paths') === '1',
    predicted: given.get('predicted') === '1',
    steps: number('steps', 100_000, true),
  };
}

function encodePoints(points: Float64Array): string {
  const largest = points.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
  const whole = Int16Array.from(points, (value) => Math.round((value / largest) * LINK_SCALE));
  return btoa(String.fromCharCode(...new Uint8Array(whole.buffer)));
}

function decodePoints(text: string | null): Float64Array | undefined {
  if (!text || text.length > 8 * MAX_LINKED_POINTS) return undefined;
  try {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    if (bytes.length === 0 || bytes.length % 4 !== 0) return undefined;
    return Float64Array.from(new Int16Array(bytes.buffer), (value) => value / LINK_SCALE);
  } catch {
    return undefined;
  }
}
