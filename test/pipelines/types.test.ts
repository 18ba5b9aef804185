import type { RawImage, Tensor } from '@huggingface/transformers';
import { expectTypeOf, it } from 'vitest';
import type {
  ImageBytes,
  ImageGenerationOptions,
  PipelineOptions,
  UnconditionalImageGenerationPipeline,
} from '../../src/pipelines/index.ts';
import type { Scheduler } from '../../src/schedulers/index.ts';

// Checked by tsc, which fails where a type is another one.
declare const generate: UnconditionalImageGenerationPipeline;
declare const count: number;
declare const options: ImageGenerationOptions;

it('types what generate returns by its options', () => {
  const calls = () => ({
    none: generate(),
    empty: generate({}),
    steps: generate({ num_inference_steps: 50, seed: 7 }),
    one: generate({ batch_size: 1 }),
    unsaid: generate({ output_type: 'image' }),
    three: generate({ batch_size: 3 }),
    any: generate({ batch_size: count }),
    variable: generate(options),
    tensor: generate({ batch_size: 1, output_type: 'tensor' }),
    bytes: generate({ output_type: 'uint8' }),
  });
  expectTypeOf(calls).returns.toEqualTypeOf<{
    none: Promise<RawImage>;
    empty: Promise<RawImage>;
    steps: Promise<RawImage>;
    one: Promise<RawImage>;
    unsaid: Promise<RawImage>;
    three: Promise<RawImage[]>;
    any: Promise<RawImage | RawImage[]>;
    variable: Promise<RawImage | RawImage[]>;
    tensor: Promise<Tensor>;
    bytes: Promise<ImageBytes>;
  }>();
});

it('has options that an editor completes', () => {
  expectTypeOf<PipelineOptions['device']>().toEqualTypeOf<
    'auto' | 'gpu' | 'cpu' | 'webgpu' | 'cuda' | null | undefined
  >();
  expectTypeOf<PipelineOptions['dtype']>().toEqualTypeOf<'fp32' | 'fp16' | null | undefined>();
  expectTypeOf<UnconditionalImageGenerationPipeline['scheduler']>().toEqualTypeOf<Scheduler>();
});
