import type { CommandTable, Reply, Request } from '../messages.ts';

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A model in a worker, from the side of the page. */
export class ModelWorker<Table extends CommandTable> {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private sent = 0;

  constructor(script: URL) {
    this.worker = new Worker(script, { type: 'module' });
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const waiting = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ('error' in data) waiting?.reject(new Error(data.error));
      else waiting?.resolve(data.answer);
    };
    this.worker.onerror = (event) => this.fail(event.message || 'The worker could not be loaded.');
  }

  ask<Name extends keyof Table & string>(name: Name, given: Table[Name]['given']): Promise<Table[Name]['answer']> {
    const id = ++this.sent;
    const request: Request = { id, name, given };
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage(request);
    });
  }

  private fail(message: string): void {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }
}
