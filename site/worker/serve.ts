import type { CommandTable, Reply, Request } from '../messages.ts';

/** What answers each command. */
export type Handlers<Table extends CommandTable> = {
  readonly [Name in keyof Table]: (
    given: Table[Name]['given'],
  ) => Table[Name]['answer'] | Promise<Table[Name]['answer']>;
};

interface Scope {
  onmessage: ((event: { readonly data: Request }) => void) | null;
  postMessage(message: Reply): void;
}

/** Answers the messages of the page, one after another; what takes long comes in short pieces. */
export function serve<Table extends CommandTable>(handlers: Handlers<Table>): void {
  const scope = self as unknown as Scope;
  let last: Promise<void> = Promise.resolve();
  const answer = async ({ id, name, given }: Request) => {
    try {
      const handler = handlers[name];
      if (!handler) throw new Error(`The worker does not know '${name}'.`);
      scope.postMessage({ id, answer: await handler(given) });
    } catch (error) {
      scope.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  };
  scope.onmessage = ({ data }) => {
    last = last.then(() => answer(data));
  };
}
