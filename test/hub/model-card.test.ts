import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { type ModelCardFacts, modelCard } from '../../src/hub/model-card.ts';

const facts: ModelCardFacts = {
  task: 'unconditional-image-generation',
  className: 'UNet2DModel',
  isInDiffusers: true,
  averaged: true,
  dataset: '/home/me/private/flowers',
  steps: 1200,
  loss: { name: 'iso', lambda: 0.05 },
  settings: { learning_rate: 0.001, optim: 'adamw' },
  results: { metrics: { precision: 0.91 }, args: { extractor: 'inception' } },
  license: 'apache-2.0',
};

it('has a YAML header, the settings, the metrics and how to use it', () => {
  const card = modelCard(facts);
  const [, header = ''] = card.split('---\n');
  expect(parse(header)).toMatchObject({
    license: 'apache-2.0',
    library_name: 'diffusers',
    pipeline_tag: 'unconditional-image-generation',
    'model-index': [
      {
        name: 'Images from flowers',
        results: [
          {
            task: { type: 'unconditional-image-generation' },
            dataset: { name: 'flowers', type: 'flowers' },
            metrics: [{ type: 'precision', value: 0.91, name: 'precision', args: { extractor: 'inception' } }],
          },
        ],
      },
    ],
  });
  expect(parse(header)).not.toHaveProperty('datasets');
  expect(card).toMatch(/\| learning&#95;rate \| 0.001 \|/);
  expect(card).toMatch(/\| precision \| 0.91 \|/);
  expect(card).toMatch(/subfolder="unet_ema"/);
  expect(card).not.toContain('/home/me');
});

it('takes no text for Markdown, HTML or YAML', () => {
  const card = modelCard({ ...facts, dataset: '<script>|x|\n---\ntags: [evil]', license: 'mit\nevil: true' });
  expect(card).not.toContain('<script>');
  expect(card).not.toMatch(/^tags: \[evil\]/m);
  const [, header = ''] = card.split('---\n');
  expect(parse(header)).not.toHaveProperty('evil');
});

it('claims no diffusers for points, nor for a class of the user', () => {
  const own = modelCard({ ...facts, className: 'TinyDiT', isInDiffusers: false });
  expect(own).toContain('(TinyDiT)');
  expect(own).toContain('library_name: iso-diffusion');
  expect(own).not.toContain('from diffusers');
  const card = modelCard({
    ...facts,
    task: 'unconditional-point-generation',
    className: 'ConditionalDense',
    isInDiffusers: false,
  });
  expect(card).not.toContain('from diffusers');
  expect(card).not.toContain('pipeline_tag');
});
