import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { HubError, IsoDiffusionError, NonFiniteLossError } from '../../src/errors.ts';
import { type Channel, startProcess, startThread } from '../../src/threads/channel.ts';
import { importModules } from '../../src/threads/imported-modules.ts';
import type { Call } from './calls.ts';

// The sources, as in a clone. The set-up file has replaced where they are, and loaded modules that go by it.
vi.unmock(import('../../src/files/package-files.ts'));
vi.hoisted(() => vi.resetModules());

const script = new URL('./calls.ts', import.meta.url);
type Calls = Channel<Call, unknown, number>;
const open: Calls[] = [];
const thread = (): Calls => startThread<Call, unknown, number>(script, { seed: 7 });
const child = (): Calls => startProcess<Call, unknown, number>(script, { stderr: 'capture' }).channel;
const opened = (channel: Calls): Calls => {
  open.push(channel);
  return channel;
};
afterEach(async () => {
  for (const channel of open.splice(0)) await channel.release();
});

describe.each([
  ['thread', thread],
  ['process', child],
])('a %s', (kind, start) => {
  it('answers calls that overlap, each with its own answer and events', async () => {
    const channel = opened(start());
    await channel.started();
    const events: number[] = [];
    const answers = await Promise.all(
      [1, 2, 3].map((value) => {
        const values = Float32Array.of(value, 10 * value);
        return channel.call({ kind: 'double', values }, { onEvent: (event) => events.push(event) });
      }),
    );
    expect(answers).toEqual([Float32Array.of(2, 20), Float32Array.of(4, 40), Float32Array.of(6, 60)]);
    expect(events).toEqual([1, 10, 2, 20, 3, 30]);
  });

  it('passes errors on with their class, fields and stack, and goes on', async () => {
    const channel = opened(start());
    const failure = (how: 'loss' | 'hub' | 'plain' | 'unknown') =>
      channel.call({ kind: 'fail', how }).catch((error: unknown) => error);
    const loss = await failure('loss');
    expect(loss).toBeInstanceOf(NonFiniteLossError);
    expect(loss).toMatchObject({ name: 'NonFiniteLossError', message: 'the loss is NaN', step: 17 });
    expect((loss as Error).stack).toMatch(/calls\.ts/);
    const hub = await failure('hub');
    expect(hub).toBeInstanceOf(HubError);
    expect(hub).toMatchObject({ unreachable: true });
    const plain = await failure('plain');
    expect(plain).toMatchObject({ name: 'OwnError', message: 'mine' });
    expect(plain).not.toBeInstanceOf(IsoDiffusionError);
    expect(await failure('unknown')).toMatchObject({ name: 'Error', message: 'a text' });
    expect(await channel.call({ kind: 'double', values: Float32Array.of(1) })).toEqual(Float32Array.of(2));
  });

  it('stops what is under way, and what waits behind it, with the reason of the signal', async () => {
    const channel = opened(start());
    await channel.started();
    const controller = new AbortController();
    const waiting = channel.call({ kind: 'wait' }, { signal: controller.signal });
    const behind = channel.call({ kind: 'wait' }, { signal: controller.signal });
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 20);
    expect(await Promise.allSettled([waiting, behind])).toEqual([
      { status: 'rejected', reason },
      { status: 'rejected', reason },
    ]);
    await expect(channel.call({ kind: 'wait' }, { signal: controller.signal })).rejects.toBe(reason);
  });

  it('that ends rejects what is under way and what comes later', async () => {
    const channel = opened(start());
    const calls = [channel.call({ kind: 'exit' }), channel.call({ kind: 'data' })];
    const message = kind === 'process' ? /out of paper/ : /ended with code 3/;
    for (const call of await Promise.allSettled(calls))
      expect(call).toMatchObject({ reason: { message: expect.stringMatching(message) } });
    await expect(channel.call({ kind: 'data' })).rejects.toThrow(message);
  });

  it('that is released is gone, with its calls', async () => {
    const channel = start();
    await channel.started();
    const call = channel.call({ kind: 'wait' }).catch((error: Error) => error.message);
    await channel.release('enough');
    expect(await call).toBe('enough');
    await expect(channel.started()).rejects.toThrow('enough');
  });
});

it('a request that cannot be sent is refused, and the channel goes on', async () => {
  const channel = opened(thread());
  const call = { kind: 'data', extra: () => undefined };
  await expect(channel.call(call as Call)).rejects.toThrow(/could not be cloned/);
  expect(await channel.call({ kind: 'data' })).toEqual([{ seed: 7 }, undefined]);
});

it('a thread takes buffers over and finds its data', async () => {
  const channel = opened(thread());
  const values = Float32Array.of(1, 2);
  const answer = channel.call({ kind: 'double', values }, { transfer: [values.buffer] });
  expect(values.length).toBe(0);
  expect(await answer).toEqual(Float32Array.of(2, 4));
  expect(await channel.call({ kind: 'data' })).toEqual([{ seed: 7 }, undefined]);
});

it('a process imports the modules that its caller has imported', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-channel-'));
  const file = path.join(folder, 'mine.mjs');
  try {
    await writeFile(file, "globalThis.registeredHere = 'mine';");
    await importModules([file]);
    expect(await opened(child()).call({ kind: 'data' })).toEqual([null, 'mine']);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it.each(['startThread', 'startProcess'])('%s: an idle channel keeps nothing alive', async (start) => {
  const source = fileURLToPath(new URL('../../src/threads/channel.ts', import.meta.url));
  const argument = start === 'startThread' ? '1' : "{ stderr: 'capture' }";
  const program = `
    const { ${start} } = await import('${pathToFileURL(source).href}');
    const made = ${start}(new URL('${script.href}'), ${argument});
    const channel = made.channel ?? made;
    console.log(await channel.call({ kind: 'double', values: Float32Array.of(4) }));`;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', program],
    { timeout: 30_000 },
  );
  expect(stdout).toMatch(/8/);
});
