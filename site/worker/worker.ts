import type { Answer, CommandName, Given, Reply, Request } from '../messages.ts';
import { ModelRun } from './model-run.ts';

// One model in a worker of its own. Commands are taken one after another; what takes long comes in short pieces.

interface Scope {
  onmessage: ((event: { readonly data: Request }) => void) | null;
  postMessage(message: Reply): void;
}
const scope = self as unknown as Scope;

let run: ModelRun | undefined;
let last: Promise<unknown> = Promise.resolve();

const handlers: { [Name in CommandName]: (given: Given<Name>) => Answer<Name> | Promise<Answer<Name>> } = {
  async begin(setup) {
    await run?.release();
    run = undefined;
    run = await ModelRun.begin(setup);
    return { real: run.real };
  },
  train: ({ steps }) => begun().train(steps),
  change(changes) {
    begun().change(changes);
    return null;
  },
  draw: (setup) => begun().draw(setup),
  measure: (setup) => begun().measure(setup),
  reverse: (setup) => begun().reverse(setup),
  forward: ({ count }) => begun().forward(count),
  isotropy: () => begun().isotropy(),
  async save({ format }) {
    const { savedModel } = await import('./files.ts');
    return savedModel(begun(), format);
  },
  async load(file) {
    const { loadedWeights } = await import('./files.ts');
    await begun().restart(loadedWeights(begun(), file));
    return null;
  },
};

function begun(): ModelRun {
  if (run) return run;
  throw new Error('There is no model yet.');
}

scope.onmessage = ({ data }) => {
  last = last.then(() => answer(data));
};

async function answer<Name extends CommandName>({ id, name, given }: Request<Name>): Promise<void> {
  try {
    scope.postMessage({ id, answer: await handlers[name](given) });
  } catch (error) {
    scope.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
}
