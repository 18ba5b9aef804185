// The architecture as a rule: which room of src/ may import which, from the bottom up. `npm run lint` checks it with
// dependency-cruiser. Imports of types count as imports. Inside a room, files may import each other, but not in a cycle.
const rooms = {
  platform: '',
  random: '',
  files: '',
  threads: 'files',
  distributed: '',
  terminal: '',
  hub: 'files',
  graph: 'files',
  nn: 'random graph',
  models: 'random files hub graph nn',
  schedulers: 'files hub',
  losses: 'graph schedulers',
  runtime: 'files threads distributed graph',
  autoencoders: 'random files hub graph nn models runtime',
  datasets: 'random files hub',
  plots: 'random files',
  pages: 'terminal plots',
  metrics: 'random files graph schedulers runtime',
  trainers:
    'random threads distributed terminal files hub graph nn models schedulers losses runtime autoencoders datasets',
  pipelines: 'random threads files hub graph models schedulers losses runtime autoencoders datasets',
  evaluation:
    'random threads distributed files hub graph models schedulers runtime autoencoders datasets plots metrics trainers pipelines',
  experiments:
    'random threads terminal files hub models schedulers losses runtime autoencoders datasets plots pages metrics trainers pipelines evaluation',
  cli: 'threads distributed terminal files hub models schedulers losses runtime autoencoders datasets plots pages metrics trainers pipelines evaluation experiments',
};
// These files lie below every room but platform. They import errors.ts; options.ts also the others.
const ground = ['errors', 'arguments', 'registry', 'zod', 'options'];

// What users import: in Node, and in a browser.
const doors = ['index', 'index\\.web'];

// Only these import modules of Node: a browser gets none of them. Everything else asks src/platform.
const ofNode = [
  '^src/(platform|runtime|threads)/node/',
  '^src/distributed/(world\\.ts|mpi/)',
  '^src/(terminal|experiments|cli)/',
  '^src/evaluation/(callback/|contact-sheets/spool\\.ts|path-length/)',
  '^src/evaluation/extractors/transformers-features\\.ts',
  '^src/datasets/images/(sources/(?!digits|dropped-files)|open-source\\.ts)',
  '^src/files/(digits-file|download|folder-lock|package-files)\\.ts',
  '^src/hub/(dataset-repository|download|push-to-hub|repository)\\.ts',
  '^src/runtime/(session-worker\\.cjs|worker-session\\.ts)',
  '^src/threads/(channel|imported-modules)\\.ts',
  '^src/trainers/data/batch-worker\\.ts',
  '^src/pipelines/noise-worker\\.ts',
];

const within = (names) => `^src/(${names.join('|')})/`;
const ofGround = (names) => `^src/(${names.join('|')})\\.ts$`;

const names = Object.keys(rooms);
// The platform is below all other rooms, and all may use it.
const belowOf = (room) => (room === 'platform' ? [] : ['platform', ...rooms[room].split(' ').filter(Boolean)]);
names.forEach((room, position) => {
  const upward = belowOf(room).filter((below) => !names.slice(0, position).includes(below));
  if (upward.length > 0) throw new Error(`${room} may only import rooms listed before it, not ${upward}`);
});

export default {
  forbidden: [
    {
      name: 'edges-of-ground',
      severity: 'error',
      from: { path: ofGround(ground) },
      to: { path: '^src/', pathNot: [within(['platform']), ofGround(['errors', 'arguments', 'registry', 'zod'])] },
    },
    ...names.map((room) => ({
      name: `edges-of-${room}`,
      comment: `${room} may import ${[...ground, ...belowOf(room)].join(', ')}`,
      severity: 'error',
      from: { path: within([room]) },
      to: { path: '^src/', pathNot: [within([room, ...belowOf(room)]), ofGround(ground)] },
    })),
    {
      name: 'modules-of-node',
      comment: 'what differs in a browser is asked of src/platform, by #platform/...',
      severity: 'error',
      from: { path: '^src/', pathNot: ofNode },
      to: { dependencyTypes: ['core'] },
    },
    { name: 'cycle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'room-without-rule',
      comment: 'a new room gets a line in the list above',
      severity: 'error',
      from: { path: '^src/', pathNot: [within(names), ofGround([...ground, ...doors])] },
      to: {},
    },
    {
      name: 'index-is-the-door',
      comment: 'src/index.ts and src/index.web.ts export for users; inside, import the file that defines a thing',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: ofGround(doors) },
    },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: true,
    // Modules of Node have names without a folder, or with one of these.
    includeOnly: '^(src/|node:|[a-z_]+$|(fs|timers|stream|util)/promises$)',
    enhancedResolveOptions: { extensions: ['.ts', '.cjs'] },
  },
};
