import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { reduceMean } from '../../src/graph/ops/index.ts';
import { readStatistics } from '../../src/metrics/frechet/statistics-file.ts';
import { savePipeline, temporaryFolder } from '../pipelines/saved-pipeline.ts';
import { smallImageTrainer } from '../trainers/small-image-trainer.ts';

const folder = await temporaryFolder();
const startFolder = process.cwd();

/** Runs the command line in this process, in the temporary folder: a process of its own takes seconds to start. */
async function cli(line: string) {
  const output = { stdout: '', stderr: '' };
  const add = (stream: 'stdout' | 'stderr') => (text: unknown) => {
    output[stream] += `${text}`;
    return true;
  };
  const spies = [
    vi.spyOn(console, 'log').mockImplementation((text) => void add('stdout')(`${text}\n`)),
    vi.spyOn(process.stdout, 'write').mockImplementation(add('stdout')),
    vi.spyOn(process.stderr, 'write').mockImplementation(add('stderr')),
  ];
  try {
    return { code: await main(line.split(' ')), ...output };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** An "extractor" of three features: the mean of each colour. */
function meanColourModel(...outputs: string[]): Uint8Array {
  const graph = new Graph('mean-colour');
  const x = graph.input('pixels', 'float32', ['n', 3, 4, 4]);
  for (const output of outputs) graph.output(output, reduceMean(x, [2, 3]));
  return writeOnnx(graph);
}

async function writeImages(name: string, count: number, shift: number): Promise<void> {
  mkdirSync(name);
  for (let i = 0; i < count; i++) {
    const noise = Uint8Array.from({ length: 108 }, (_, p) => (p * 37 + i * 91 + shift * p * i) % 256);
    await sharp(noise, { raw: { width: 6, height: 6, channels: 3 } })
      .png()
      .toFile(`${name}/${i}.png`);
  }
}

beforeAll(async () => {
  process.chdir(folder);
  vi.stubEnv('XDG_CACHE_HOME', path.join(folder, 'cache'));
  vi.stubEnv('ISO_DIFFUSION_EXTRACTORS', path.join(folder, 'extractors'));
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  await writeImages('photos', 14, 1);
  await writeImages('generated', 12, 2);
  for (const run of ['runs/swiss-roll', 'runs/moons']) await savePipeline(run);
  await smallImageTrainer({ output_dir: 'runs/digits' }).savePipeline('runs/digits/pipeline');
  for (const [i, file] of ['real.csv', 'points.csv'].entries())
    writeFileSync(file, Array.from({ length: 40 }, (_, n) => `${Math.sin(n)},${Math.cos(n * n + i)}`).join('\n'));
  writeFileSync('model.onnx', meanColourModel('pool'));
  mkdirSync('extractors');
  // In the place of the published Inception, under the names of its outputs.
  writeFileSync('extractors/inception.onnx', meanColourModel('2048', 'logits_unbiased'));
  expect((await cli('statistics --images photos --extractor model.onnx:pool --share 1/2 --out part-1.npz')).code).toBe(
    0,
  );
  expect((await cli('statistics --images photos --extractor model.onnx:pool --share 2/2 --out part-2.npz')).code).toBe(
    0,
  );
}, 120_000);
afterAll(() => {
  process.chdir(startFolder);
  vi.unstubAllEnvs();
});

async function examplesOf(command: string): Promise<string[]> {
  const { stdout } = await cli(`${command} --help`);
  return [...stdout.matchAll(/^ {2}iso-diffusion (.+)$/gm)].map((match) => match[1] ?? '');
}

describe('the examples of --help run', () => {
  it('of evaluate', async () => {
    const examples = await examplesOf('evaluate');
    expect(examples).toHaveLength(10);
    for (const example of examples) {
      const pipeline = example.includes('/pipeline') ? ' --n 30 --steps 3 --device cpu' : '';
      const { code, stderr, stdout } = await cli(example + pipeline);
      expect(stderr, example).not.toMatch(/error:/);
      expect(code, example).toBe(0);
      expect(stdout, example).toMatch(example.includes('--share') ? /share [12]\/2/ : /precision|fid/);
    }
    for (const name of ['uncovered.png', 'outside.png', 'best.png', 'closest.png', 'contact-sheets.json'])
      expect(existsSync(path.join('sheets', name)), name).toBe(true);
    expect(existsSync('scatter.svg') && existsSync('scatter.png')).toBe(true);
    expect(JSON.parse(readFileSync('report.json', 'utf8'))).toMatchObject({
      fid: expect.any(Number),
      kid_mean: expect.any(Number),
      is_mean: expect.any(Number),
      coverage: expect.any(Number),
      k: 5,
      real_count: 14,
      fake_count: 12,
      extractor: { name: 'inception.onnx:2048', checksum: expect.stringMatching(/^[0-9a-f]{64}$/) },
      logits_extractor: { name: 'inception.onnx:logits_unbiased' },
    });
  }, 120_000);

  it('of statistics', async () => {
    const examples = await examplesOf('statistics');
    expect(examples).toHaveLength(4);
    await cli('statistics --images digits --extractor raw-pixels --share 2/2 --out part-2.npz');
    for (const example of examples) {
      const pipeline = example.includes('/pipeline') ? ' --n 30 --steps 3 --device cpu' : '';
      const { code, stderr } = await cli(example + pipeline);
      expect(stderr, example).not.toMatch(/error/);
      expect(code, example).toBe(0);
    }
    expect((await readStatistics('digits.npz')).count).toBe(1797);
    expect((await readStatistics('photos.npz')).dims).toBe(3);
  }, 120_000);
});

describe('evaluate', () => {
  it('prints what the figures are of, and keeps the statistics of the real images', async () => {
    const line = 'evaluate --real photos --fake generated --metrics fid --extractor raw-pixels --cache-dir kept';
    const first = await cli(line);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toMatch(/fid +\d+\.\d+/);
    expect(first.stdout).toMatch(/real +.*photos \(14\)\n/);
    expect(first.stdout).toMatch(/extractor +raw-pixels 6x6x3\nchecksum +[0-9a-f]{64}\n/);
    expect(first.stdout).toMatch(/\n\nWarning: raw pixels compare brightness/);
    expect(JSON.parse((await cli(`${line} --json`)).stdout).warnings).toEqual([expect.stringMatching(/^raw pixels/)]);
    const [file = ''] = readdirSync('kept/statistics');
    writeFileSync(path.join('kept/statistics', file), 'damaged');
    const second = await cli(line);
    expect(second.stderr).toMatch(/^warning: .*computed again\n$/);
    expect(second.stdout).toBe(first.stdout);
  });

  it('draws with another scheduler', async () => {
    const line =
      'evaluate --real digits --fake runs/digits/pipeline --extractor raw-pixels --metrics fid --n 8 --device cpu --json --steps 2';
    const ddpm = await cli(line);
    const ddim = await cli(`${line} --scheduler ddim`);
    const asItIs = await cli(`${line} --scheduler ddpm`);
    expect(JSON.parse(asItIs.stdout)).toEqual(JSON.parse(ddpm.stdout));
    expect(JSON.parse(ddim.stdout).fid).not.toBe(JSON.parse(ddpm.stdout).fid);
  });

  it("takes the metrics' options under torch-fidelity's names", async () => {
    const line = 'evaluate --real photos --fake generated --metrics kid --extractor raw-pixels --json';
    const flags = '--kid-subsets 3 --kid-subset-size 6 --kid-degree 2 --kid-gamma 0.01 --kid-coef0 0 --rng-seed 4';
    const { kid_mean, settings } = JSON.parse((await cli(`${line} ${flags}`)).stdout);
    const kernel = { kid_degree: 2, kid_gamma: 0.01, kid_coef0: 0 };
    expect(settings).toEqual({ seed: 4, kid_subsets: 3, kid_subset_size: 6, ...kernel });
    const options = JSON.stringify({ kid_subsets: 3, kid_subset_size: 6, ...kernel });
    const same = JSON.parse((await cli(`${line} --metric-options ${options} --seed 4`)).stdout);
    expect(same.kid_mean).toBe(kid_mean);
    const logits = '--extractor raw-pixels --logits-extractor model.onnx:pool';
    const score = `evaluate --real photos --fake generated --metrics is ${logits} --isc-splits 2 --is-shuffle false --json`;
    expect(JSON.parse((await cli(score)).stdout).settings).toEqual({ seed: 0, is_splits: 2, is_shuffle: false });
  });

  it.each([
    [
      'evaluate --real photos --fake generated --metrics fid --extractor raw-pixels --kid-degree 2',
      /metric_options has 'kid_degree', which is not an option of fid/,
    ],
    ['evaluate --real photos --fake generated --metrics kid --extractor raw-pixels --kid-gamma 0', /kid_gamma is 0/],
    ['evaluate --real photos --fake generated --metrics is --is-shuffle no', /--is-shuffle.*must be true or false/],
    ['evaluate --real photos --fake generated --metrics fid,fd --extractor raw-pixels', /metrics\[1\]/],
    [
      'evaluate --real photos --fake generated --metrics kid --extractor raw-pixels --metric-options {"subsets":5}',
      /metric_options has 'subsets'.*kid_subsets/,
    ],
    ['evaluate --real photos', /option --fake <source>: name a pipeline/],
    ['evaluate --real photos --fake generated --share 1/2', /--share needs --out/],
    ['evaluate --real photos --fake generated --out x.safetensors', /--out is the file of a --share/],
    ['evaluate --real photos --fake generated --share 1/2 --out x.safetensors --json', /a --share has no result yet/],
    ['evaluate --merge part-1.safetensors --real photos', /--merge computes.*--real has no effect/],
    ['evaluate --merge part-1.npz', /part-1.npz .*safetensors/],
    ['evaluate --real photos --fake nowhere', /fake 'nowhere' does not exist and is not a data set/],
    ['evaluate --real photos --fake moons', /generated samples are points, but the real ones are images/],
    ['evaluate --real photos moons --fake generated', /only .npz files can be merged, and 'photos' is not one/],
    [
      'evaluate --real photos --fake generated --extractor vgg16',
      /HF_HUB_OFFLINE is set.*fetch https:.*vgg16.*put it at/,
    ],
    ['evaluate --real photos --fake generated --extractor raw-pixels --plot x.png', /--plot draws points/],
    ['evaluate --real digits --fake runs/digits/pipeline --extractor raw-pixels --n 8 --class-labels 0', /class/],
    ['statistics --images photos --extractor raw-pixels --share 3 --out x.npz', /--share '3' must be i\/n/],
    ['statistics --images photos --merge part-1.npz --out x.npz', /either --images or --merge/],
    ['statistics --merge part-1.npz --out x.txt', /must end in .npz/],
    ['statistics --merge part-1.npz photos/0.png --out x.npz', /not an .npz file/],
  ])('%s is refused with exit code 2', async (line, message) => {
    const { code, stderr } = await cli(line);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(existsSync('x.npz')).toBe(false);
  });
});
