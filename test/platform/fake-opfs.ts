/* The part of the File System API that OpfsStore uses, in memory; `npm run test:browser` has the real one. */

interface Options {
  /** Whether files have `move()`, as in today's browsers. */
  readonly movable?: boolean;
}

type Entry = FakeFile | FakeFolder;

export function fakeFolder(options: Options = {}): FakeFolder {
  return new FakeFolder(options);
}

function fail(name: string): never {
  throw Object.assign(new Error(name), { name });
}

class FakeFile {
  readonly kind = 'file';
  content = new Uint8Array();
  /** Undefined where there is none, as a method that is missing. */
  readonly move: ((to: FakeFolder, name: string) => Promise<void>) | undefined;

  constructor(
    private folder: FakeFolder,
    private name: string,
    { movable = true }: Options,
  ) {
    this.move = movable
      ? async (to, target) => {
          this.folder.entries.delete(this.name);
          to.entries.set(target, this);
          this.folder = to;
          this.name = target;
        }
      : undefined;
  }

  getFile = async () => new Blob([this.content]);

  createWritable = async ({ keepExistingData = false } = {}) => {
    let bytes = keepExistingData ? this.content.slice() : new Uint8Array();
    let position = 0;
    return {
      seek: async (to: number) => {
        position = to;
      },
      write: async (piece: Uint8Array) => {
        const longer = new Uint8Array(Math.max(bytes.length, position + piece.length));
        longer.set(bytes);
        longer.set(piece, position);
        bytes = longer;
      },
      abort: async () => undefined,
      close: async () => {
        this.content = bytes;
      },
    };
  };
}

class FakeFolder {
  readonly kind = 'directory';
  readonly entries = new Map<string, Entry>();

  constructor(private readonly options: Options) {}

  async *keys() {
    yield* [...this.entries.keys()];
  }

  getDirectoryHandle = (name: string, { create = false } = {}) =>
    this.handle(name, 'directory', create ? () => new FakeFolder(this.options) : undefined);

  getFileHandle = (name: string, { create = false } = {}) =>
    this.handle(name, 'file', create ? () => new FakeFile(this, name, this.options) : undefined);

  async removeEntry(name: string, { recursive = false } = {}) {
    const entry = this.entries.get(name) ?? fail('NotFoundError');
    if (entry.kind === 'directory' && entry.entries.size > 0 && !recursive) fail('InvalidModificationError');
    this.entries.delete(name);
  }

  private async handle(name: string, kind: Entry['kind'], make: (() => Entry) | undefined): Promise<Entry> {
    const entry = this.entries.get(name) ?? make?.() ?? fail('NotFoundError');
    if (entry.kind !== kind) fail('TypeMismatchError');
    this.entries.set(name, entry);
    return entry;
  }
}
