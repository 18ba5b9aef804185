// The architecture as a rule: which room of src/ may import which, from the bottom up. `npm run lint` checks it with
// dependency-cruiser. Imports of types count as imports. Inside a room, files may import each other, but not in a cycle.
const rooms = {
  errors: [],
  registry: ['errors'],
  random: ['errors'],
  threads: ['errors'],
  files: ['errors'],
  hub: ['errors', 'files'],
  graph: ['errors', 'registry'],
  nn: ['errors', 'random', 'graph'],
  models: ['errors', 'registry', 'random', 'files', 'hub', 'graph', 'nn'],
  schedulers: ['errors', 'registry', 'files', 'hub'],
  losses: ['errors', 'registry', 'graph'],
  runtime: ['errors', 'threads', 'graph'],
  datasets: ['errors', 'random', 'files', 'hub'],
  plots: ['errors', 'files'],
  metrics: ['errors', 'registry', 'random', 'files', 'graph', 'runtime'],
  trainers: [
    ...['errors', 'random', 'threads', 'files', 'hub', 'graph', 'nn'],
    ...['models', 'schedulers', 'losses', 'runtime', 'datasets'],
  ],
  pipelines: [
    ...['errors', 'random', 'threads', 'files', 'hub', 'graph'],
    ...['models', 'schedulers', 'runtime', 'datasets'],
  ],
  evaluation: [
    ...[
      'errors',
      'registry',
      'random',
      'threads',
      'files',
      'hub',
      'graph',
      'models',
      'schedulers',
      'runtime',
    ],
    ...['datasets', 'plots', 'metrics', 'trainers', 'pipelines'],
  ],
  reproduce: [
    ...['errors', 'threads', 'files', 'models', 'schedulers', 'losses', 'runtime', 'datasets', 'plots'],
    ...['metrics', 'trainers', 'pipelines', 'evaluation'],
  ],
  cli: [
    ...[
      'errors',
      'registry',
      'threads',
      'files',
      'hub',
      'models',
      'schedulers',
      'losses',
      'runtime',
      'datasets',
    ],
    ...['plots', 'metrics', 'trainers', 'pipelines', 'evaluation', 'reproduce'],
  ],
};

// A room is a folder of src/, or one file that lies in src/ itself.
const within = (names) => `^src/(${names.join('|')})(/|\\.ts$)`;

const names = Object.keys(rooms);
names.forEach((room, position) => {
  const upward = rooms[room].filter((below) => !names.slice(0, position).includes(below));
  if (upward.length > 0) throw new Error(`${room} may only import rooms listed before it, not ${upward}`);
});

export default {
  forbidden: [
    ...Object.entries(rooms).map(([room, below]) => ({
      name: `edges-of-${room}`,
      comment: below.length > 0 ? `${room} may import ${below.join(', ')}` : `${room} imports no other room`,
      severity: 'error',
      from: { path: within([room]) },
      to: { path: '^src/', pathNot: within([room, ...below]) },
    })),
    { name: 'cycle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'room-without-rule',
      comment: 'a new room gets a line in the list above',
      severity: 'error',
      from: { path: '^src/', pathNot: [within(names), '^src/index\\.ts$'] },
      to: {},
    },
    {
      name: 'index-is-the-door',
      comment: 'src/index.ts exports for users; inside, import the file that defines a thing',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^src/index\\.ts$' },
    },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: true,
    includeOnly: '^src/',
    enhancedResolveOptions: { extensions: ['.ts', '.cjs'] },
  },
};
