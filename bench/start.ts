import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildNode } from '../scripts/build-node.ts';
import { median, printRatio } from './harness.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Where `npm run build` builds, too: the files there find each other by package.json. */
const build = path.join(root, 'dist');
const ROUNDS = 15;

/**
 * How long the built package takes to start: `iso-diffusion --help`, and `import 'iso-diffusion'`, each against `node -e 0`
 * in turns. The ratios are those of the wall time; the processor time, which a busy machine changes less, is printed too.
 */
export async function run(): Promise<void> {
  const compiled = spawnSync('npx', ['tsc', '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
  if (compiled.status !== 0) throw new Error('the package cannot be built');
  await buildNode(build);
  const programs = {
    node: '0',
    help: `import('${build}/cli/main.js').then(({ main }) => main(['--help']))`,
    import: `import('${build}/index.js')`,
  };
  const names = Object.keys(programs) as (keyof typeof programs)[];
  const taken = Object.fromEntries(names.map((name) => [name, [] as { wall: number; cpu: number }[]]));
  for (let round = -1; round < ROUNDS; round++)
    for (const name of names) {
      const time = timed(programs[name]);
      if (round >= 0) taken[name]?.push(time);
    }
  const of = (name: string, key: 'wall' | 'cpu') => median((taken[name] ?? []).map((time) => time[key]));
  for (const name of names)
    console.log(`${name}: ${of(name, 'wall').toFixed(3)} s, ${of(name, 'cpu').toFixed(3)} s of processor time`);
  printRatio('start-help', of('help', 'wall') / of('node', 'wall'));
  printRatio('start-import', of('import', 'wall') / of('node', 'wall'));
}

/** Written last of all, behind what the program says. */
const REPORT = "process.on('exit', () => console.error(JSON.stringify(process.cpuUsage())));";

/** The seconds of one process: by the clock, and of the processor. */
function timed(code: string): { wall: number; cpu: number } {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, ['-e', `${REPORT} ${code}`], { encoding: 'utf8' });
  const wall = (performance.now() - start) / 1000;
  if (status !== 0) throw new Error(`node -e "${code}" ended with ${status}: ${stderr}`);
  const { user, system }: { user: number; system: number } = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
  return { wall, cpu: (user + system) / 1e6 };
}
