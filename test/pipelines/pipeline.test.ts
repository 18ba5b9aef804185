import { describe, expect, it, vi } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';

const transformersPipeline = vi.hoisted(() => vi.fn(async () => 'their pipeline'));
vi.mock('@huggingface/transformers', () => ({ pipeline: transformersPipeline }));

describe('pipeline', () => {
  it('hands other tasks on to transformers.js with the same arguments', async () => {
    const options = { dtype: 'q8', device: 'cpu' } as const;
    const made = await pipeline('text-classification', 'owner/model', options);
    expect(made).toBe('their pipeline');
    expect(transformersPipeline).toHaveBeenCalledExactlyOnceWith('text-classification', 'owner/model', options);
  });

  it.each([['' as string], [undefined as unknown as string]])('wants a model, not %j', async (model) => {
    await expect(pipeline('unconditional-point-generation', model)).rejects.toThrow(InvalidArgumentError);
  });

  it.each([[{ device: 'tpu' }], [{ dtype: 'q4' }]])('refuses %j', async (options) => {
    const made = pipeline('unconditional-point-generation', './no-such-folder', options as object);
    await expect(made).rejects.toThrow(InvalidArgumentError);
  });
});
