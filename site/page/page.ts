import { App } from './app.ts';
import { findControls } from './controls.ts';
import { DrawPad } from './draw-pad.ts';
import type { Side } from './experiment.ts';
import { byId } from './page-elements.ts';

const controls = findControls();
const app = new App(controls, new URL('./worker.js', import.meta.url));
const pad = new DrawPad(byId('pad', HTMLCanvasElement));

/** Does something, and says what went wrong. */
function attempt(action: () => unknown): void {
  Promise.resolve()
    .then(action)
    .catch((error: unknown) => app.say(error instanceof Error ? error.message : String(error)));
}

function onClick(id: string, action: () => unknown): void {
  byId(id, HTMLButtonElement).addEventListener('click', () => {
    app.say('');
    attempt(action);
  });
}

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
for (const control of [set, batch, seed, view, paths, predicted])
  control.addEventListener('change', () => attempt(() => app.update()));
for (const control of [lambda, rate, time]) control.addEventListener('input', () => attempt(() => app.update()));

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
  const file = event.dataTransfer?.files[0];
  if (file) openFile(file);
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
