import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { type NamedTensor, safetensorsChunks } from '../src/files/safetensors.ts';
import { writeOnnx } from '../src/graph/onnx/write.ts';
import { ConditionalDense, type DiffusionModel, exportModelGraph, initialParameters } from '../src/models/index.ts';
import { DenoisingLoop } from '../src/pipelines/fused/loop.ts';
import { ModelSession } from '../src/pipelines/model-session.ts';
import { sample } from '../src/pipelines/sample.ts';
import { readSamplingOptions } from '../src/pipelines/sampling-options.ts';
import { DDPMScheduler, type Scheduler } from '../src/schedulers/index.ts';
import { asScheduler } from '../src/schedulers/registry.ts';
import { limitThreads } from '../src/threads/threads.ts';
import { printRatio, type Reference, requirePython, runPairs, startReference } from './harness.ts';
import { smallUNet } from './unet-step.ts';

const SAMPLERS = [
  ...['ddpm', 'ddim', 'dpm++', 'dpm++-single', 'unipc', 'deis', 'euler', 'euler-a', 'heun', 'lms', 'pndm'],
] as const;
/** Torch times so many of longer processes, whose steps all cost the same. */
const MOST_REFERENCE_STEPS = 100;

const own = new DDPMScheduler({ clip_sample: false });

/** A model on both sides. */
interface Subject {
  readonly kind: 'images' | 'points';
  readonly count: number;
  readonly model: DiffusionModel;
  readonly session: ModelSession;
  readonly loop: DenoisingLoop | undefined;
}

/**
 * 16 images of 8x8 by a U-Net of 0.7 million parameters, and 10,000 points by the paper's network, drawn with each sampler in
 * its usual number of steps, against eager torch with the same network and the structure of diffusers' pipelines. Seconds are
 * processor time, with one thread on both sides: for networks of this size threads wait more than they help.
 */
export async function run(): Promise<void> {
  requirePython(['torch', 'numpy', 'scipy']);
  limitThreads(1);
  const reference = startReference(fileURLToPath(new URL('./samplers_reference.py', import.meta.url)));
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  const ratios: number[] = [];
  try {
    const subjects = [
      await subjectOf('images', 16, smallUNet(8), folder, reference),
      await subjectOf('points', 10_000, new ConditionalDense(), folder, reference),
    ];
    for (const subject of subjects)
      for (const sampler of SAMPLERS) {
        await checkSameSamples(subject, sampler, reference);
        const { ratio } = await compared(subject, sampler, reference);
        printRatio(`samplers ${subject.kind} ${sampler}`, ratio);
        ratios.push(ratio);
      }
    for (const { session, loop } of subjects) await Promise.all([session.release(), loop?.release()]);
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
  console.log('geometric mean of all ratios:');
  printRatio('samplers', Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length));
}

async function subjectOf(
  kind: Subject['kind'],
  count: number,
  model: DiffusionModel,
  folder: string,
  reference: Reference,
): Promise<Subject> {
  const values = initialParameters(model, 0);
  const tensors = model.parameters.map(({ name, shape }): [string, NamedTensor] => [
    name,
    { dtype: 'F32', shape: [...shape], data: values.get(name) ?? new Float32Array() },
  ]);
  const weights = path.join(folder, `${kind}.safetensors`);
  await writeFileAtomic(weights, safetensorsChunks(new Map(tensors)));
  const { beta_start, beta_end } = own.config;
  await reference.request({ command: 'load', kind, config: model.config, weights, beta_start, beta_end });
  const onnx = writeOnnx(exportModelGraph(model, values));
  const session = await ModelSession.create(onnx, { ...model.config }, model.sampleShape, 'cpu');
  return { kind, count, model, session, loop: kind === 'points' ? await DenoisingLoop.of(onnx, session) : undefined };
}

/** What the reference is told of a sampler. */
function requestFor({ kind, model }: Subject, sampler: string, scheduler: Scheduler, count: number) {
  const { timesteps, init_noise_sigma, config } = scheduler;
  const steps = scheduler.stepStarts.length;
  return {
    command: 'draw',
    kind,
    sampler,
    timesteps,
    sigmas: 'sigmas' in scheduler ? scheduler.sigmas : [],
    init_noise_sigma,
    half: Math.floor(config.num_train_timesteps / steps / 2),
    shape: [count, ...model.sampleShape],
    steps: timesteps.length,
  };
}

function started(sampler: string, steps?: number): Scheduler {
  const scheduler = asScheduler(sampler, own);
  scheduler.setTimesteps(steps ?? scheduler.usualSteps);
  return scheduler;
}

/** Both sides must do the same: the largest relative difference of two samples after 16 steps without fresh noise. */
async function checkSameSamples(subject: Subject, sampler: string, reference: Reference): Promise<void> {
  const scheduler = started(sampler, 16);
  const count = 2;
  const request = requestFor(subject, sampler, scheduler, count);
  const start = Float32Array.from({ length: request.shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(3 * i));
  const { sample: expected } = await reference.request<{ sample: number[] }>({ ...request, start: [...start] });
  let x = start.map((value) => value * scheduler.init_noise_sigma);
  for (const timestep of scheduler.timesteps) {
    const output = await subject.session.predict(scheduler.scaleModelInput(x, timestep), timestep);
    const noise = new Float32Array(x.length);
    x = scheduler.step(output, timestep, x, { noise, sample_shape: request.shape }).prev_sample.slice();
  }
  const difference = Math.max(
    ...expected.map((value, i) => Math.abs(value - (x[i] ?? Number.NaN)) / (1 + Math.abs(value))),
  );
  if (!(difference < 1e-3)) throw new Error(`${sampler}: the samples of the two sides differ by ${difference}`);
}

async function compared(subject: Subject, sampler: string, reference: Reference) {
  const { session, loop, count } = subject;
  const scheduler = started(sampler);
  const request = requestFor(subject, sampler, scheduler, count);
  const steps = Math.min(request.steps, MOST_REFERENCE_STEPS);
  let seed = 0;
  return runPairs({
    name: `samplers ${subject.kind} ${sampler}, ${request.steps} evaluations`,
    // 1,000 steps are measured once: they even out much by themselves.
    ...(request.steps > MOST_REFERENCE_STEPS ? { pairs: 1, warmup: 0 } : { pairs: 3 }),
    ours: async () => {
      const options = { scheduler, num_inference_steps: scheduler.stepStarts.length, seed: seed++ };
      const what = subject.kind === 'images' ? 'image' : 'point';
      const before = process.cpuUsage();
      const call = readSamplingOptions(options, { scheduler: own, isotropy: undefined }, count, what);
      const run = { ...call, batchSize: count };
      if (!(await loop?.tryRun(run))) await sample(session, run);
      const { user, system } = process.cpuUsage(before);
      return { seconds: (user + system) / 1e6 };
    },
    reference: async () => {
      const { seconds } = await reference.request<{ seconds: number }>({ ...request, steps });
      return { seconds: (seconds * request.steps) / steps };
    },
  });
}
