import { byId } from './page-elements.ts';
import { BATCH_SIZES, type PageState, RATES, VIEWS } from './state.ts';

/** What the user sets, and where the page answers in words. */
export type Controls = ReturnType<typeof findControls>;

export function findControls() {
  const batch = byId('batch', HTMLSelectElement);
  for (const size of BATCH_SIZES) batch.add(new Option(String(size)));
  const rate = byId('rate', HTMLSelectElement);
  for (const value of RATES) rate.add(new Option(String(value)));
  return {
    batch,
    rate,
    play: byId('play', HTMLButtonElement),
    set: byId('set', HTMLSelectElement),
    lambda: byId('lambda', HTMLInputElement),
    seed: byId('seed', HTMLInputElement),
    view: byId('view', HTMLSelectElement),
    time: byId('time', HTMLInputElement),
    paths: byId('paths', HTMLInputElement),
    predicted: byId('predicted', HTMLInputElement),
    main: byId('main', HTMLElement),
    images: byId('images', HTMLElement),
    tabPoints: byId('tab-points', HTMLButtonElement),
    tabImages: byId('tab-images', HTMLButtonElement),
    progress: byId('progress', HTMLElement),
    message: byId('message', HTMLElement),
    lambdaValue: byId('lambda-value', HTMLElement),
    timeValue: byId('time-value', HTMLElement),
    plainTitle: byId('plain-title', HTMLElement),
    isoTitle: byId('iso-title', HTMLElement),
  };
}

type ControlledState = Omit<PageState, 'tab' | 'own' | 'steps'>;

export function readControls(controls: Controls): ControlledState {
  const seed = Number(controls.seed.value);
  return {
    set: controls.set.value,
    seed: Number.isSafeInteger(seed) && seed >= 0 ? seed : 0,
    batch: Number(controls.batch.value),
    lambda: Number(controls.lambda.value),
    rate: Number(controls.rate.value),
    view: VIEWS.find((view) => view === controls.view.value) ?? 'live',
    time: Number(controls.time.value),
    paths: controls.paths.checked,
    predicted: controls.predicted.checked,
  };
}

export function showState(controls: Controls, state: PageState): void {
  controls.main.hidden = state.tab !== 'points';
  controls.images.hidden = state.tab !== 'images';
  controls.tabPoints.ariaCurrent = state.tab === 'points' ? 'page' : 'false';
  controls.tabImages.ariaCurrent = state.tab === 'images' ? 'page' : 'false';
  controls.set.value = state.set;
  controls.batch.value = String(state.batch);
  controls.lambda.value = String(state.lambda);
  controls.lambdaValue.textContent = state.lambda.toFixed(2);
  controls.rate.value = String(state.rate);
  if (document.activeElement !== controls.seed) controls.seed.value = String(state.seed);
  controls.view.value = state.view;
  controls.time.value = String(state.time);
  controls.time.disabled = state.view === 'live';
  controls.paths.checked = state.paths;
  controls.paths.disabled = state.view === 'live';
  controls.predicted.checked = state.predicted;
  controls.plainTitle.textContent = state.predicted ? `λ = ${state.lambda} predicted, trained with 0` : 'λ = 0';
  controls.isoTitle.textContent = `λ = ${state.lambda}`;
}
