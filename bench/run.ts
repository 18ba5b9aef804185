/** `npm run bench -- NAME`: runs one benchmark against its Python counterpart, or a plain call; the last line is `ratio NAME X` where there is one. */
import { MissingReferenceError } from './harness.ts';

const benchmarks: Record<string, (argv: readonly string[]) => Promise<void>> = {
  step: async () => (await import('./step.ts')).run(),
  sampling: async () => (await import('./sampling.ts')).run(),
  samplers: async () => (await import('./samplers.ts')).run(),
  'noise-scale': async () => (await import('./noise-scale.ts')).run(),
  unet: async (argv) => (await import('./unet.ts')).run(argv),
  'unet-small': async () => (await import('./unet.ts')).runSmall(),
  autoencoder: async (argv) => (await import('./autoencoder.ts')).run(argv),
  traffic: async (argv) => (await import('./traffic.ts')).run(argv),
  prdc: async () => (await import('./prdc.ts')).run(),
  browser: async (argv) => (await import('./browser/run.ts')).run(argv),
  mpi: async () => (await import('./mpi.ts')).run(),
  start: async () => (await import('./start.ts')).run(),
  draw: async () => (await import('./draw.ts')).run(),
  service: async (argv) => (await import('./service.ts')).run(argv),
  features: async (argv) => (await import('./features.ts')).run(argv),
  loading: async () => (await import('./loading.ts')).run(),
  'prdc-2048': async () => (await import('./prdc-2048.ts')).run(),
  'prdc-2048-memory': async () => (await import('./prdc-2048.ts')).runLargeSets(),
};

const name = process.argv[2] ?? '';
const benchmark = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
if (!benchmark) {
  console.error(`Unknown benchmark '${name}'. Usage: npm run bench -- ${Object.keys(benchmarks).join(' | ')}`);
  process.exit(2);
}
try {
  await benchmark(process.argv.slice(3));
} catch (error) {
  if (!(error instanceof MissingReferenceError)) throw error;
  console.error(error.message);
  process.exit(3);
}
