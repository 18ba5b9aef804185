import { type ChildProcess, fork } from 'node:child_process';
import { Socket } from 'node:net';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parentPort, type TransferListItem, Worker } from 'node:worker_threads';
import * as errors from '../errors.ts';
import { resolveDependency, runsSources } from '../files/package-files.ts';
import { importedModules, importModules } from './imported-modules.ts';

/*
 * Calls into a worker thread or another process. This side makes a `Channel` and calls; the other side runs a script
 * that ends in `serve`. Every message carries the number of its call: a request and perhaps an abort go there, events,
 * then an answer or an error come back. Errors keep their class where errors.ts has it.
 */

type ToServer<Request> =
  | { readonly id: number; readonly request: Request }
  | { readonly id: number; readonly abort: true }
  | { readonly id: number; readonly ping: true }
  | { readonly modules: readonly string[] };

type FromServer<Answer, Event> =
  | { readonly id: number; readonly answer: Answer }
  | { readonly id: number; readonly error: PlainError }
  | { readonly id: number; readonly event: Event };

/** An error as it crosses a channel. */
interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string | undefined;
  /** Its further fields, such as the step of a `NonFiniteLossError`. */
  readonly fields?: Readonly<Record<string, unknown>> | undefined;
}

interface Pending<Answer, Event> {
  resolve(answer: Answer): void;
  reject(error: Error): void;
  onEvent?: ((event: Event) => void) | undefined;
}

export interface CallOptions<Event> {
  /** Buffers that move to the other thread instead of being copied; processes copy them. */
  readonly transfer?: readonly TransferListItem[];
  /** Aborts the signal that the handler is given. The call ends when the handler does, with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called with what the handler emits before it answers. */
  readonly onEvent?: (event: Event) => void;
}

/** The other side as far as a channel needs it: a thread or a process. */
interface Peer {
  post(message: unknown, transfer: readonly TransferListItem[]): void;
  /** Whether the other side keeps this process alive. */
  hold(busy: boolean): void;
  kill(): Promise<unknown>;
}

/**
 * Calls that are answered elsewhere, any number at a time. While a call is under way the other side keeps this process
 * alive, as any other work would; idle, it ends with it.
 */
export class Channel<Request, Answer, Event = never> {
  private readonly pending = new Map<number, Pending<Answer, Event>>();
  private nextId = 0;
  private ended: Error | undefined;

  private constructor(private readonly peer: Peer) {
    peer.hold(false);
  }

  /**
   * A channel to a thread whose script speaks the protocol.
   *
   * @param kill ends the thread; default: at once, wherever its JavaScript is.
   */
  static toThread<Request, Answer, Event = never>(
    worker: Worker,
    kill: () => Promise<unknown> = () => worker.terminate(),
  ): Channel<Request, Answer, Event> {
    const channel = new Channel<Request, Answer, Event>({
      post: (message, transfer) => worker.postMessage(message, transfer),
      hold: (busy) => (busy ? worker.ref() : worker.unref()),
      kill,
    });
    worker.on('message', (message: FromServer<Answer, Event>) => channel.receive(message));
    worker.on('error', (error) => channel.end(error));
    worker.on('exit', (code) => channel.end(new Error(`it ended with code ${code}`)));
    return channel;
  }

  /** A channel to a forked process whose script speaks the protocol. */
  static toProcess<Request, Answer, Event = never>(child: ChildProcess): Channel<Request, Answer, Event> {
    const closed = new Promise((resolve) => child.once('close', resolve));
    const channel = new Channel<Request, Answer, Event>({
      post: (message) => {
        if (child.connected) child.send(message as object, (error) => error && channel.end(error));
      },
      hold: (busy) => {
        const change = busy ? 'ref' : 'unref';
        child[change]();
        child.channel?.[change]();
        if (child.stderr instanceof Socket) child.stderr[change]();
      },
      kill: () => {
        child.ref();
        // `close` waits for the end of stderr too, which alone would not keep this process alive.
        if (child.stderr instanceof Socket) child.stderr.ref();
        child.kill('SIGKILL');
        return closed;
      },
    });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-MAX_STDERR_CHARACTERS);
    });
    child.on('message', (message) => channel.receive(message as FromServer<Answer, Event>));
    child.on('error', (error) => channel.end(error));
    child.on('close', (code, signal) =>
      channel.end(new Error(said.trim() || `its process ended with ${signal ?? `code ${code}`}`)),
    );
    return channel;
  }

  /**
   * @throws the error of the handler, of the same class where errors.ts has it; or why the other side has ended.
   * @throws `signal.reason` when the call was aborted.
   */
  async call(request: Request, { transfer, signal, onEvent }: CallOptions<Event> = {}): Promise<Answer> {
    signal?.throwIfAborted();
    const id = this.nextId++;
    const abort = () => this.peer.post({ id, abort: true } satisfies ToServer<Request>, []);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await this.ask(id, { id, request }, transfer, onEvent);
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Resolves once the other side has loaded its script. */
  async started(): Promise<void> {
    const id = this.nextId++;
    await this.ask(id, { id, ping: true });
  }

  /** Ends the other side at once. Calls under way, and later ones, are rejected with `reason`. */
  async release(reason = 'it was released'): Promise<void> {
    this.ended ??= new Error(reason);
    await this.peer.kill();
    this.end(this.ended);
  }

  private ask(
    id: number,
    message: ToServer<Request>,
    transfer: readonly TransferListItem[] = [],
    onEvent?: (event: Event) => void,
  ): Promise<Answer> {
    if (this.ended) return Promise.reject(this.ended);
    this.peer.post(message, transfer);
    this.peer.hold(true);
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject, onEvent });
    });
  }

  private receive(message: FromServer<Answer, Event>): void {
    // What a thread still says while it ends.
    if (this.ended) return;
    const pending = this.pending.get(message.id);
    if ('event' in message) {
      pending?.onEvent?.(message.event);
      return;
    }
    this.pending.delete(message.id);
    if (this.pending.size === 0) this.peer.hold(false);
    if ('error' in message) pending?.reject(errorOf(message.error));
    else pending?.resolve(message.answer);
  }

  private end(reason: Error): void {
    this.ended ??= reason;
    for (const { reject } of this.pending.values()) reject(this.ended);
    this.pending.clear();
  }
}

/** The end of a long error text says the most. */
const MAX_STDERR_CHARACTERS = 4000;

function resolvedTsx(entry: string): string {
  const commonJs = resolveDependency(entry);
  return pathToFileURL(commonJs.replace(/\.cjs$/, '.mjs')).href;
}

/**
 * Starts a thread that runs a script of this package.
 *
 * @param script of `packageScript`.
 * @param data what the script finds in `workerData`.
 */
export function startThread<Request, Answer, Event = never>(
  script: URL,
  data: unknown,
): Channel<Request, Answer, Event> {
  const options = { execArgv: [], workerData: data };
  if (!runsSources) return Channel.toThread(new Worker(script, options));
  const load = `import('${resolvedTsx('tsx/esm/api')}').then(({ register }) => (register(), import('${script.href}')))`;
  return Channel.toThread(new Worker(load, { ...options, eval: true }));
}

/**
 * Starts a process that runs a script of this package. It imports the user's modules that this one has imported, and
 * ends with this one.
 *
 * @param script as for {@link startThread}.
 * @param options.stderr 'inherit', or 'capture': then the error of a process that crashed says what it wrote there.
 */
export function startProcess<Request, Answer, Event = never>(
  script: URL,
  { stderr }: { stderr: 'inherit' | 'capture' },
): { channel: Channel<Request, Answer, Event>; pid: number | undefined } {
  const child = fork(fileURLToPath(script), {
    execArgv: runsSources ? ['--import', resolvedTsx('tsx')] : [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', stderr === 'capture' ? 'pipe' : 'inherit', 'ipc'],
  });
  const channel = Channel.toProcess<Request, Answer, Event>(child);
  child.send({ modules: importedModules() } satisfies ToServer<Request>, () => undefined);
  return { channel, pid: child.pid };
}

/** What a handler is given beside the request. */
export interface CallContext<Event> {
  readonly signal: AbortSignal;
  emit(event: Event): void;
}

/**
 * The end of the script of a thread or process: answers the calls of its channel, one after another. A process ignores
 * Ctrl-C, which reaches it too and is the caller's to handle, and ends when the caller does.
 *
 * @param transfer the buffers of an answer that a thread hands over instead of copying them.
 */
export function serve<Request, Answer, Event = never>(
  handle: (request: Request, context: CallContext<Event>) => Answer | Promise<Answer>,
  transfer: (answer: Answer) => readonly TransferListItem[] = () => [],
): void {
  const post = (message: FromServer<Answer, Event>, list: readonly TransferListItem[] = []) =>
    parentPort ? parentPort.postMessage(message, list) : process.send?.(message);
  const running = new Map<number, AbortController>();
  let imported: Promise<void> = Promise.resolve();
  let last: Promise<void> = Promise.resolve();

  const answer = async (id: number, request: Request, { signal }: AbortController) => {
    try {
      await imported;
      signal.throwIfAborted();
      const result = await handle(request, { signal, emit: (event) => post({ id, event }) });
      post({ id, answer: result }, transfer(result));
    } catch (error) {
      post({ id, error: plainError(error) });
    }
    running.delete(id);
  };
  const receive = (message: ToServer<Request>) => {
    if ('modules' in message) {
      imported = importModules(message.modules);
      // Whoever calls sees the failure.
      imported.catch(() => undefined);
    } else if ('ping' in message) post({ id: message.id, answer: undefined as Answer });
    else if ('abort' in message) running.get(message.id)?.abort(new Error('the caller aborted the call'));
    else {
      const { id, request } = message;
      const controller = new AbortController();
      running.set(id, controller);
      last = last.then(() => answer(id, request, controller));
    }
  };
  if (parentPort) {
    parentPort.on('message', receive);
    return;
  }
  process.on('SIGINT', () => undefined);
  process.on('disconnect', () => process.exit());
  process.on('message', receive);
  // The caller may have died before there was a listener.
  if (process.send && !process.connected) process.exit();
}

function plainError(cause: unknown): PlainError {
  if (!(cause instanceof Error)) return { name: 'Error', message: String(cause) };
  const { name, message, stack } = cause;
  const fields = Object.entries(cause).filter(
    ([key, value]) => key !== 'name' && ['string', 'number', 'boolean'].includes(typeof value),
  );
  return { name, message, stack, fields: Object.fromEntries(fields) };
}

function errorOf({ name, message, stack, fields }: PlainError): Error {
  const error = new Error(message);
  const known: unknown = Object.entries(errors).find(([key]) => key === name)?.[1];
  if (typeof known === 'function' && known.prototype instanceof Error) Object.setPrototypeOf(error, known.prototype);
  return Object.assign(error, fields, { name }, stack === undefined ? {} : { stack });
}
