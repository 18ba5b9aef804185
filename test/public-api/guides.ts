import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** What the text around the blocks of a guide has introduced, for those that are lines of a program: one entry a block. */
const AROUND: Readonly<Record<string, readonly string[]>> = {
  'tfjs.md': [
    `import type { Tensor, Scalar } from '@tensorflow/tfjs-core';
     import type { TfModule } from 'iso-diffusion/tfjs';
     declare const tf: TfModule, noisy: Tensor, t: Tensor, noise: Tensor;
     declare const model: { compile(options: { optimizer: string; loss: (target: Tensor, output: Tensor) => Scalar }): void };
     declare const optimizer: { minimize(loss: () => Scalar): void };
     declare const predict: (noisy: Tensor, t: Tensor) => Tensor;`,
    `import type { TrainerOptions } from 'iso-diffusion';
     declare const { model, args, train_dataset, loss, noise_scheduler }: TrainerOptions;`,
    `import { createRequire } from 'node:module';`,
    `import { Trainer, type TrainerOptions } from 'iso-diffusion';
     declare const { model, args, train_dataset, loss, noise_scheduler }: TrainerOptions;`,
  ],
  'browser.md': [
    `import type { Tensor } from '@huggingface/transformers';
     declare const sample: Tensor, timestep: Tensor;`,
    `import { loadPoints, MemoryStore, useStore } from 'iso-diffusion';
     declare const file: File;`,
    `import { droppedFiles, loadImages } from 'iso-diffusion';
     declare const page: { addEventListener(type: 'drop', listener: (event: DropEvent) => void): void };
     declare const input: { files: File[] };
     type DropEvent = { preventDefault(): void; dataTransfer: { items: DataTransferItemList } };`,
    `import { evaluate, type ImageSet, OnnxFeatures, type UnconditionalImageGenerationPipeline } from 'iso-diffusion';
     declare const set: ImageSet, generate: UnconditionalImageGenerationPipeline;`,
  ],
  'environments.md': [
    `import { Trainer, type TrainerCallback, type TrainerOptions } from 'iso-diffusion';
     declare const { model, args, train_dataset, loss, noise_scheduler }: TrainerOptions;
     declare const stopButton: HTMLButtonElement;`,
    '',
  ],
};

/** A block of a guide as a file of a project. */
export interface Snippet {
  readonly name: string;
  readonly text: string;
  /** Whether it is of a page, which has the types of browsers. */
  readonly isOfPage: boolean;
}

/** Every block of TypeScript and JavaScript in README.md, CONTRIBUTING.md and docs/. */
export function guideSnippets(): Snippet[] {
  const guides = readdirSync('docs').filter((name) => name.endsWith('.md'));
  return ['README.md', 'CONTRIBUTING.md', ...guides.map((name) => path.join('docs', name))].flatMap((guide) => {
    const name = path.basename(guide);
    const blocks = [...readFileSync(guide, 'utf8').matchAll(/```(ts|js)\n([\s\S]*?)```/g)];
    const lacking = blocks.filter(([, language]) => language === 'js' || name === 'tfjs.md');
    const around = AROUND[name] ?? [];
    if (lacking.length !== around.length)
      throw new Error(
        `test/public-api/guides.ts has ${around.length} entries for the ${lacking.length} blocks of ${guide}`,
      );
    return blocks.map((block, index) => {
      const [, language, text = ''] = block;
      return {
        name: `${path.basename(guide, '.md')}-${index}.ts`,
        text: `${around[lacking.indexOf(block)] ?? ''}\n${text}\nexport {};\n`,
        isOfPage: language === 'js',
      };
    });
  });
}
