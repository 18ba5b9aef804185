import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { ConfigError } from '../../src/errors.ts';
import type { Value } from '../../src/graph/graph.ts';
import { type DiffusionModel, type ModelInputs, modelFromConfig, models } from '../../src/models/index.ts';
import { type ForwardContext, Linear } from '../../src/nn/index.ts';

class OneLayer implements DiffusionModel {
  readonly config;
  readonly sampleShape = [2];
  private readonly layer = new Linear('layer', 2, 2);
  readonly parameters = this.layer.parameters;

  constructor(readonly scale: number) {
    this.config = { _class_name: 'OneLayer', scale };
  }

  static fromConfig(json: unknown): OneLayer {
    return new OneLayer(z.object({ scale: z.number() }).parse(json).scale);
  }

  forward({ sample }: ModelInputs, context: ForwardContext): Value {
    return this.layer.forward(sample, context);
  }
}

describe('models', () => {
  it('builds a registered class from its config, as those of the package', () => {
    models.register('OneLayer', OneLayer);
    const model = modelFromConfig({ _class_name: 'OneLayer', scale: 3 });
    expect(model).toBeInstanceOf(OneLayer);
    expect(model.config).toEqual({ _class_name: 'OneLayer', scale: 3 });
    expect(modelFromConfig({ _class_name: 'ConditionalDense', in_features: 3 }).sampleShape).toEqual([3]);
  });

  it('refuses a class that is not registered, with the nearest name', () => {
    expect(() => modelFromConfig({ _class_name: 'UNet2dModel' })).toThrow(ConfigError);
    expect(() => modelFromConfig({ _class_name: 'UNet2dModel' })).toThrow(/Did you mean 'UNet2DModel'/);
    expect(() => modelFromConfig([])).toThrow(/model class missing is not known/);
  });
});
