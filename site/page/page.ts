import { droppedFiles } from '../../src/datasets/images/sources/dropped-files.ts';
import { App } from './app.ts';
import { findControls } from './controls.ts';
import { DrawPad } from './draw-pad.ts';
import type { Side } from './experiment.ts';
import { ImageTab } from './images.ts';
import { byId } from './page-elements.ts';

const controls = findControls();
const app = new App(controls, new URL('./worker.js', import.meta.url));
const imageTab = new ImageTab();
const pad = new DrawPad(byId('pad', HTMLCanvasElement));

let last: Promise<unknown> = Promise.resolve();
let updates = false;

/** Does something after what was asked for before, and says what went wrong. */
function attempt(action: () => unknown): void {
  last = last.then(action).catch((error: unknown) => app.say(error instanceof Error ? error.message : String(error)));
}

/** Takes over the controls, and follows them: once for all that moves before it is its turn. */
function update(): void {
  app.readControls();
  if (updates) return;
  updates = true;
  attempt(() => {
    updates = false;
    return app.apply();
  });
}

function onClick(id: string, action: () => unknown): void {
  byId(id, HTMLButtonElement).addEventListener('click', () => {
    app.say('');
    attempt(action);
  });
}

onClick('tab-points', async () => {
  await imageTab.pause();
  await app.showTab('points');
});
onClick('tab-images', () => app.showTab('images'));
onClick('play', () => app.playOrPause());
onClick('step', () => app.oneStep());
onClick('reset', () => app.restart());
onClick('pad-use', () => app.useOwn(pad.points));
onClick('pad-clear', () => pad.clear());
const which = byId('which', HTMLSelectElement);
const side = (): Side => (which.value === 'iso' ? 'iso' : 'plain');
onClick('save-onnx', () => app.save(side(), 'onnx'));
onClick('save-zip', () => app.save(side(), 'zip'));
onClick('save-csv', () => app.saveLog());
onClick('copy-link', async () => {
  await navigator.clipboard.writeText(app.link());
  app.say('The link is in the clipboard.');
});

const { set, lambda, rate, batch, seed, view, time, paths, predicted } = controls;
for (const control of [set, batch, rate, seed, view, paths, predicted])
  control.addEventListener('change', () => update());
for (const control of [lambda, time]) control.addEventListener('input', () => update());

for (const id of ['csv', 'model'])
  byId(id, HTMLInputElement).addEventListener('change', ({ currentTarget }) => {
    if (!(currentTarget instanceof HTMLInputElement)) return;
    const [file] = currentTarget.files ?? [];
    currentTarget.value = '';
    if (file) openFile(file);
  });
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dropping');
});
document.addEventListener('dragleave', () => document.body.classList.remove('dropping'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dropping');
  const { items, files } = event.dataTransfer ?? {};
  if (app.state.tab === 'images') {
    if (items) imageTab.open(droppedFiles(items));
  } else if (files?.[0]) openFile(files[0]);
});

function openFile(file: File): void {
  app.say('');
  attempt(() => app.openFile(file));
}

attempt(() => app.open());

// Offline after the first load; pages from a file have no service worker.
if ('serviceWorker' in navigator && location.protocol.startsWith('http'))
  addEventListener('load', () => {
    navigator.serviceWorker.register(new URL('./service-worker.js', import.meta.url)).catch(() => undefined);
  });
