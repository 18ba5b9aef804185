import type { Answer, CommandName, Given, Reply, Request } from '../messages.ts';

interface Waiting {
  readonly resolve: (answer: Answer<CommandName>) => void;
  readonly reject: (error: Error) => void;
}

/** A model in a worker, from the side of the page. */
export class ModelWorker {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private sent = 0;

  constructor(script: string | URL) {
    this.worker = new Worker(script, { type: 'module' });
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const waiting = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if ('error' in data) waiting?.reject(new Error(data.error));
      else waiting?.resolve(data.answer);
    };
    this.worker.onerror = (event) => this.fail(event.message || 'The worker could not be loaded.');
  }

  ask<Name extends CommandName>(name: Name, given: Given<Name>): Promise<Answer<Name>> {
    const id = ++this.sent;
    const request: Request<Name> = { id, name, given };
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: (answer) => resolve(answer as Answer<Name>), reject });
      this.worker.postMessage(request);
    });
  }

  private fail(message: string): void {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }
}
