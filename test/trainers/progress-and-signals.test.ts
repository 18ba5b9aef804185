import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { compiledScript } from '../compiled-script.ts';
import { smallTrainer } from './small-trainer.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-signals-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let script: string;
beforeAll(async () => {
  script = await compiledScript(new URL('./interrupted-run.ts', import.meta.url));
});

/** Runs the script and sends it Ctrl-C `times` times, one right after the other, once it trains. */
function interrupted(name: string, mode: string, times = 1) {
  const output_dir = path.join(folder, name);
  const child = spawn(process.execPath, [script, output_dir, mode]);
  let output = '';
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk;
    if (times > 1 && errors.includes('Ctrl-C again')) child.kill('SIGINT');
  });
  child.stdout.on('data', (chunk: Buffer) => {
    if (!output.includes('training') && String(chunk).includes('training')) child.kill('SIGINT');
    output += chunk;
  });
  return new Promise<{ code: number | null; signal: string | null; output: string; errors: string; saved: string[] }>(
    (resolve) => {
      child.on('close', (code, signal) => {
        const saved = readdirSync(output_dir).filter((file) => file.startsWith('checkpoint-'));
        resolve({ code, signal, output, errors, saved });
      });
    },
  );
}

describe('a signal during train()', () => {
  it('saves a checkpoint and then ends the process, as it would have without', async () => {
    const { signal, output, errors, saved } = await interrupted('default', 'default');
    expect({ signal, output }).toEqual({ signal: 'SIGINT', output: 'training\n' });
    expect(errors).toContain('interrupted: saving a checkpoint (Ctrl-C again exits at once)');
    expect(saved).toHaveLength(1);
  }, 60_000);

  it('that the program listens for lets train() return, and its own handlers are gone', async () => {
    const { code, output, saved } = await interrupted('listens', 'listens');
    expect({ code, output }).toEqual({ code: 0, output: 'training\nlistener\nreturned true, 1 listeners\n' });
    expect(saved).toHaveLength(1);
  }, 60_000);

  it('is left alone on request: the process ends at once', async () => {
    expect(await interrupted('alone', 'alone')).toMatchObject({ signal: 'SIGINT', errors: '', saved: [] });
  }, 60_000);

  it('that comes again ends the process at once', async () => {
    const { code, signal } = await interrupted('twice', 'listens', 2);
    // The second one can find the checkpoint written: then the program's own listener gets it, or finds it gone at the exit.
    expect([130, 0, 'SIGINT']).toContain(code ?? signal);
  }, 60_000);

  it('is not for worker threads', async () => {
    const url = new URL('./small-trainer.ts', import.meta.url).href;
    const output_dir = path.join(folder, 'worker');
    const source = `(async () => {
      (await import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))})).register();
      const { smallTrainer } = await import(${JSON.stringify(url)});
      let during = -1;
      const count = { onStep: () => { during = process.listenerCount('SIGINT'); } };
      await smallTrainer({ output_dir: ${JSON.stringify(output_dir)}, max_steps: 7 }, [count]).train();
      require('node:worker_threads').parentPort.postMessage(during);
    })()`;
    const worker = new Worker(source, { eval: true });
    const during = await new Promise((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
    });
    expect(during).toBe(0);
    await worker.terminate();
  }, 60_000);
});

describe('the progress line', () => {
  const { isTTY, columns } = process.stderr;
  afterEach(() => {
    Object.assign(process.stderr, { isTTY, columns });
    vi.restoreAllMocks();
  });

  async function written(terminal: boolean, disable_tqdm?: boolean, columns = 120): Promise<string> {
    let text = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
      text += chunk;
      return true;
    });
    Object.assign(process.stderr, { isTTY: terminal, columns });
    const output_dir = path.join(folder, `line-${terminal}-${disable_tqdm}`);
    await smallTrainer({ output_dir, max_steps: 14, disable_tqdm }).train();
    return text;
  }

  it('is on a terminal and nowhere else, and can be turned off', async () => {
    // The bar appears once the library is loaded, which can take longer than so short a run.
    await import('cli-progress');
    expect(await written(true)).toMatch(/train .*100%.*step 14\/14, epoch 2\.8 \| .* steps\/s \| loss [\d.]+/);
    const narrow = (await written(true, undefined, 60))
      .split('\u001b[1G')
      .map((line) => stripVTControlCharacters(line).replaceAll('\u001b8', ''));
    expect(narrow.join('\n')).toMatch(/100% \| 0s left \| step\b/);
    expect(Math.max(...narrow.map(({ length }) => length))).toBeLessThanOrEqual(60);
    expect(await written(true, true)).toBe('');
    expect(await written(false)).toBe('');
    // Lines come every half minute.
    expect(await written(false, false)).toBe('');
  });
});
