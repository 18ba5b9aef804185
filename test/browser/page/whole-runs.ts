import {
  ConditionalDense,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  OpfsStore,
  pipeline,
  precisionRecallDensityCoverage,
  Trainer,
  type TrainingArguments,
  useStore,
  zipFolder,
} from 'iso-diffusion';

// What users do, with what the package exports.

async function rollTrainer(args: TrainingArguments, stop?: { readonly step: number; readonly stop: () => void }) {
  return new Trainer({
    model: new ConditionalDense(),
    args: { per_device_train_batch_size: 128, device: 'cpu', use_ema: true, disable_tqdm: true, ...args },
    train_dataset: await loadPoints('swiss-roll', { n: 2000 }),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
    callbacks: stop ? [{ interval_steps: stop.step, onInterval: stop.stop }] : [],
  });
}

/** Trains and saves a pipeline. @returns the folder as a zip file. */
export async function trainAndExport(folder: string, max_steps: number): Promise<Uint8Array> {
  const trainer = await rollTrainer({ output_dir: `${folder}/run`, max_steps });
  await trainer.train();
  await trainer.savePipeline(`${folder}/pipeline`, { layout: 'transformers.js' });
  return zipFolder(`${folder}/pipeline`);
}

/** Draws 2,000 points from a saved pipeline, and measures them against 10,000 of the data. */
export async function sampleAndMeasure(zip: Uint8Array, num_inference_steps: number) {
  const generate = await pipeline('unconditional-point-generation', zip, { device: 'cpu' });
  const { points } = await generate({ batch_size: 2000, num_inference_steps, seed: 3 });
  await generate.dispose();
  const { data } = await loadPoints('swiss-roll', { n: 10_000, seed: 1, scaling: 'none' });
  const cloud = (values: Float32Array) => ({ data: values, count: values.length / 2, dims: 2 });
  return { points, prdc: await precisionRecallDensityCoverage(cloud(data), cloud(points)) };
}

/** A run with checkpoints in the file system of the origin. @returns its parameters and their average. */
export async function runInOpfs(output_dir: string, stopAt?: number, resume?: 'latest'): Promise<Float32Array[]> {
  useStore(await OpfsStore.open('test'));
  const controller = new AbortController();
  const stop = stopAt === undefined ? undefined : { step: stopAt, stop: () => controller.abort() };
  const trainer = await rollTrainer({ output_dir, max_steps: 60, save_steps: 20 }, stop);
  const { global_step } = await trainer.train({ signal: controller.signal, resume_from_checkpoint: resume });
  if (stopAt !== undefined && global_step !== stopAt) throw new Error(`it stopped at step ${global_step}`);
  return [...trainer.weights().values(), ...trainer.weights({ ema: true }).values()];
}

/** Trains until the thread is told to stop. Says when it has begun. */
export async function trainUntilStopped(batch: number): Promise<number> {
  const controller = new AbortController();
  globalThis.addEventListener('message', ({ data }) => data === 'stop' && controller.abort());
  const begun = { step: 20, stop: () => globalThis.postMessage({ event: 'begun' }) };
  const args = { output_dir: 'stopped', max_steps: 100_000, per_device_train_batch_size: batch, logging_steps: 1000 };
  const trainer = await rollTrainer(args, begun);
  return (await trainer.train({ signal: controller.signal })).global_step;
}

/** Starts and ends runs, each with a model, an engine and files of its own, and a pipeline each. */
export async function startOften(times: number, zip: Uint8Array): Promise<void> {
  for (let i = 0; i < times; i++) {
    // A store keeps the checkpoints of all runs.
    useStore();
    await (await rollTrainer({ output_dir: 'often', max_steps: 5 })).train();
    const generate = await pipeline('unconditional-point-generation', zip, { device: 'cpu' });
    await generate({ batch_size: 100, num_inference_steps: 5 });
    await generate.dispose();
  }
}

/** Opens a saved model by transformers.js from the server, as `repo` of the Hub. @returns its output at one point. */
export async function openByTransformers(repo: string): Promise<number[]> {
  const { AutoModel, env, Tensor } = await import('@huggingface/transformers');
  env.allowLocalModels = true;
  env.allowRemoteModels = false;
  env.localModelPath = '/models/';
  env.useBrowserCache = false;
  Object.assign(env.backends.onnx.wasm ?? {}, { wasmPaths: `${location.origin}/ort/` });
  const model = await AutoModel.from_pretrained(repo);
  const sample = new Tensor('float32', Float32Array.of(0.5, -0.25), [1, 2]);
  const { out_sample } = await model({ sample, timestep: new Tensor('int64', BigInt64Array.of(10n), [1]) });
  return [...out_sample.data];
}
