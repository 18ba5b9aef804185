import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { GradientError, OnnxFormatError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { slice } from '../../src/graph/ops/index.ts';
import { apply } from '../../src/graph/registry.ts';
import { isoLoss } from '../../src/losses/index.ts';
import {
  ConditionalDense,
  type DiffusionModel,
  exportModelGraph,
  initialParameters,
  OnnxModel,
} from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-from-onnx-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const unet = tinyUNet();
const common = (name: string) => ({
  args: {
    output_dir: path.join(folder, name),
    max_steps: 4,
    per_device_train_batch_size: 8,
    device: 'cpu' as const,
    use_ema: true,
  },
  loss: isoLoss({ lambda: 0.1 }),
  noise_scheduler: new DDPMScheduler(),
});
function written(name: string, model: DiffusionModel): string {
  const file = path.join(folder, `${name}.onnx`);
  writeFileSync(file, writeOnnx(exportModelGraph(model, initialParameters(model, 0))));
  return file;
}

describe('Trainer.fromOnnx', () => {
  it.each([
    ['points', new ConditionalDense({ hidden_features: 16 }), circle()],
    ['images', unet, stripes()],
  ] as const)(
    'fine-tunes a model of %s as training from its own class does, and writes ONNX back',
    async (name, model, train_dataset) => {
      const direct = new Trainer({ ...common(`${name}-direct`), model, train_dataset });
      const tuned = await Trainer.fromOnnx(written(name, model), {
        ...common(`${name}-tuned`),
        train_dataset,
      });
      await direct.train();
      await tuned.train();
      const expected = direct.weights();
      expect([...tuned.weights().keys()].sort()).toEqual([...expected.keys()].sort());
      // The read graph has the nodes but not the composite rules, so that gradients differ by rounding; see
      // webgpu.test.ts on why the comparison is by norm.
      for (const [parameter, values] of tuned.weights()) {
        const other = expected.get(parameter) ?? new Float32Array();
        const difference = Math.hypot(...values.map((value, i) => value - (other[i] as number)));
        if (!parameter.endsWith('.to_k.bias'))
          expect(difference, parameter).toBeLessThan(1e-3 * Math.hypot(...other) + 1e-5);
      }
      const file = path.join(folder, `${name}-tuned.onnx`);
      await tuned.exportOnnx(file, { ema: false });
      const again = OnnxModel.fromBytes(await readFile(file));
      expect(initialParameters(again, 0)).toEqual(
        new Map(again.parameters.map((p) => [p.name, tuned.weights().get(p.name)])),
      );
    },
  );

  it('fine-tunes a file of torch.onnx.export, whose pipeline folder is opened again', async () => {
    const images = stripes();
    const grey = (index: number) => Uint8Array.from(images.pixels(index));
    const train_dataset = {
      ...images,
      channels: 3 as const,
      pixels: (index: number) => Uint8Array.from({ length: 192 }, (_, i) => grey(index)[Math.floor(i / 3)] ?? 0),
    };
    const source = new URL('../fixtures/onnx-in/unet-opset14-scalar.onnx', import.meta.url).pathname;
    const trainer = await Trainer.fromOnnx(source, { ...common('torch'), train_dataset });
    const before = trainer.weights();
    await trainer.train();
    for (const [name, values] of trainer.weights()) expect(values, name).not.toEqual(before.get(name));
    await trainer.savePipeline(path.join(folder, 'torch-pipeline'));
    const file = path.join(folder, 'torch-tuned.onnx');
    await trainer.exportOnnx(file);
    const options = { device: 'cpu', scheduler: new DDPMScheduler() } as const;
    const imageOf = async (model: string) => {
      const generate = await pipeline('unconditional-image-generation', model, options);
      const { data } = await generate({
        num_inference_steps: 2,
        seed: 1,
        batch_size: 3,
        output_type: 'uint8',
      });
      await generate.dispose();
      return data;
    };
    const drawn = await imageOf(file);
    expect(await imageOf(path.join(folder, 'torch-pipeline'))).toEqual(drawn);
    expect(drawn).not.toEqual(await imageOf(source));
  });

  it('names every node that cannot be differentiated', async () => {
    const graph = new Graph('frozen');
    const sample = graph.input('sample', 'float32', ['batch_size', 2]);
    graph.input('timestep', 'int64', [1]);
    const weight = graph.constant('float32', [2, 2], Float32Array.of(1, 2, 3, 4), 'weight');
    const indices = graph.constant('int64', [1, 1], BigInt64Array.of(0n));
    const scattered = apply('ScatterND', [weight, indices, slice(weight, 0, 1, 0)]);
    graph.output('out_sample', apply('MatMul', [sample, scattered]));
    const file = path.join(folder, 'frozen.onnx');
    writeFileSync(file, writeOnnx(graph));
    const trainer = Trainer.fromOnnx(file, { ...common('frozen'), train_dataset: circle() });
    await expect(trainer).rejects.toThrow(GradientError);
    await expect(trainer).rejects.toThrow(/node 'ScatterND_1' \(op ScatterND\)/);
  });

  it('refuses what is no diffusion model', async () => {
    const graph = new Graph('other');
    graph.output('y', apply('Relu', [graph.input('x', 'float32', [1])]));
    expect(() => OnnxModel.fromBytes(writeOnnx(graph))).toThrow(/the ONNX model has the inputs x \[1\]/);
    const missing = Trainer.fromOnnx(path.join(folder, 'nowhere.onnx'), {
      ...common('x'),
      train_dataset: circle(),
    });
    await expect(missing).rejects.toThrow(OnnxFormatError);
  });
});
