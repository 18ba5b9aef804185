import { byId } from './page-elements.ts';
import { BATCH_SIZES, type PageState, VIEWS } from './state.ts';

/** What the user sets, and where the page answers in words. */
export type Controls = ReturnType<typeof findControls>;

export function findControls() {
  const batch = byId('batch', HTMLSelectElement);
  for (const size of BATCH_SIZES) batch.add(new Option(String(size)));
  return {
    batch,
    play: byId('play', HTMLButtonElement),
    set: byId('set', HTMLSelectElement),
    lambda: byId('lambda', HTMLInputElement),
    rate: byId('rate', HTMLInputElement),
    seed: byId('seed', HTMLInputElement),
    view: byId('view', HTMLSelectElement),
    time: byId('time', HTMLInputElement),
    paths: byId('paths', HTMLInputElement),
    predicted: byId('predicted', HTMLInputElement),
    progress: byId('progress', HTMLElement),
    message: byId('message', HTMLElement),
    lambdaValue: byId('lambda-value', HTMLElement),
    rateValue: byId('rate-value', HTMLElement),
    timeValue: byId('time-value', HTMLElement),
    plainTitle: byId('plain-title', HTMLElement),
    isoTitle: byId('iso-title', HTMLElement),
  };
}

type ControlledState = Omit<PageState, 'own' | 'steps'>;

export function readControls(controls: Controls): ControlledState {
  const seed = Number(controls.seed.value);
  return {
    set: controls.set.value,
    seed: Number.isSafeInteger(seed) && seed >= 0 ? seed : 0,
    batch: Number(controls.batch.value),
    lambda: Number(controls.lambda.value),
    rate: Number((10 ** Number(controls.rate.value)).toPrecision(3)),
    view: VIEWS.find((view) => view === controls.view.value) ?? 'live',
    time: Number(controls.time.value),
    paths: controls.paths.checked,
    predicted: controls.predicted.checked,
  };
}

export function showState(controls: Controls, state: PageState): void {
  controls.set.value = state.set;
  controls.batch.value = String(state.batch);
  controls.lambda.value = String(state.lambda);
  controls.lambdaValue.textContent = state.lambda.toFixed(2);
  controls.rate.value = String(Math.log10(state.rate));
  controls.rateValue.textContent = String(state.rate);
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
