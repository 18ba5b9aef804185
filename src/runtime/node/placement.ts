import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { InferenceSession } from 'onnxruntime-node';
import { resolveDependency } from '../../files/package-files.ts';

const TIMEOUT_MS = 120_000;

/** Runs in the child, as text for the reason that `gpu-probe.ts` gives. It reads the model from stdin or a file. */
const PROGRAM = `
const [, entry, options, file] = process.argv;
const { InferenceSession } = require(entry);
const model = file ?? require('node:fs').readFileSync(0);
InferenceSession.create(model, JSON.parse(options)).then(() => process.exit(0), () => process.exit(1));
`;

export interface NodesOnCpu {
  /** Those that the GPU has no kernel for, as 'ConvTranspose (down_0)'. */
  readonly misplaced: readonly string[];
  /**
   * Those that onnxruntime leaves to the cpu on purpose, where cuda has kernels for them too: they compute with the shapes
   * of tensors, which are a few integers and known on the host. Files of other exporters have them.
   */
  readonly onPurpose: readonly string[];
}

/**
 * The nodes of a model that onnxruntime runs on the cpu when it is told to run on a GPU, in all of its graphs. onnxruntime
 * says it nowhere but in its verbose log, which goes to the stderr of the process: a process of its own makes the session
 * and is read. Empty where that fails.
 *
 * @param settings of the session in question.
 */
export async function nodesOnCpu(
  model: Uint8Array | string,
  settings: InferenceSession.SessionOptions,
): Promise<NodesOnCpu> {
  const options = { ...settings, logSeverityLevel: 0, logVerbosityLevel: 0, extra: withFallback(settings.extra) };
  const args = ['--eval', PROGRAM, resolveDependency('onnxruntime-node'), JSON.stringify(options)];
  // A file takes all that the library writes: where nobody reads fast enough, a pipe can lose lines.
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
  try {
    const file = path.join(folder, 'log');
    const log = await open(file, 'w');
    const child = spawn(process.execPath, typeof model === 'string' ? [...args, model] : args, {
      env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
      stdio: ['pipe', 'ignore', log.fd],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
      windowsHide: true,
    });
    // A child that ends early leaves its input unread.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(typeof model === 'string' ? undefined : model);
    await new Promise((resolve) => child.once('close', resolve).once('error', resolve));
    await log.close();
    return await readLog(createInterface({ input: createReadStream(file) }));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readLog(lines: AsyncIterable<string>): Promise<NodesOnCpu> {
  /** Names of nodes by what they are listed as. */
  const found = new Map<string, string>();
  const forced = new Set<string>();
  let ofCpu = false;
  for await (const line of lines) {
    const placed = /placed on \[(\w+)\]/.exec(line);
    if (placed) ofCpu = placed[1] === 'CPUExecutionProvider';
    // session_state.cc: two lines of a kind, the second with more spaces.
    const node = ofCpu ? /VerifyEachNodeIsAssignedToAnEp\] {3,}(\S+ \((.*)\))/.exec(line) : undefined;
    if (node?.[1]) found.set(node[1], node[2] ?? '');
    // Where all nodes are on the cpu, that list is not printed, but this line is.
    const fallback = /Fallback to CPU execution provider for Op type: (\S+) node name: ([\w/.:-]*)/.exec(line);
    if (fallback) found.set(`${fallback[1]} (${fallback[2]})`, fallback[2] ?? '');
    // fallback_cpu_capability.cc, of nodes that begin at a Shape.
    const force = /Force fallback to CPU execution for node: (.*?) because/.exec(line);
    if (force) forced.add(force[1] ?? '');
  }
  const nodes = [...found];
  // Names need not be unique: nodes without one count as misplaced.
  const isForced = ([, name]: [string, string]) => name !== '' && forced.has(name);
  return {
    misplaced: nodes.filter((node) => !isForced(node)).map(([listed]) => listed),
    onPurpose: nodes.filter(isForced).map(([listed]) => listed),
  };
}

/** Else the session is not made at all. */
function withFallback(extra: InferenceSession.SessionOptions['extra']): Record<string, unknown> {
  const { session, ...others } = (extra ?? {}) as Record<string, Record<string, unknown>>;
  return { ...others, session: { ...session, disable_cpu_ep_fallback: '0' } };
}
