import { describe, expect, it, vi } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../../src/errors.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import {
  exportModelGraph,
  initialParameters,
  modelFromConfig,
  UNET_2D_PRESETS,
  UNet2DModel,
  type UNet2DOptions,
  type UNet2DPreset,
  unet2DPreset,
} from '../../../src/models/index.ts';
import { currentParameterName } from '../../../src/models/weights.ts';
import { float32Data, hostTensor, Session } from '../../../src/runtime/session.ts';

const small: UNet2DOptions = {
  sample_size: 8,
  block_out_channels: [8, 16],
  down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 4,
};

async function outputs(model: UNet2DModel, batch: number, timesteps: number[], labels?: number[]) {
  const session = await Session.create(writeOnnx(exportModelGraph(model, initialParameters(model, 0))), 'cpu');
  const shape = [batch, ...model.sampleShape];
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i));
  const int64 = (values: number[]) => hostTensor('int64', [values.length], BigInt64Array.from(values, BigInt));
  const { out_sample } = await session.run({
    sample: hostTensor('float32', shape, data),
    timestep: int64(timesteps),
    ...(labels ? { class_labels: int64(labels) } : {}),
  });
  const result = { dims: out_sample?.dims, data: float32Data(out_sample, 'out_sample').slice() };
  await session.release();
  return result;
}

describe('the exported graph', () => {
  it('takes one timestep for all samples, or one for each', async () => {
    const model = new UNet2DModel(small);
    const one = await outputs(model, 3, [7]);
    const each = await outputs(model, 3, [7, 7, 7]);
    expect(one.dims).toEqual([3, 3, 8, 8]);
    // The same numbers but for the order of sums in a product of one row and of three.
    one.data.forEach((value, i) => {
      expect(value).toBeCloseTo(each.data[i] as number, 5);
    });
    expect((await outputs(model, 3, [7, 8, 9])).data).not.toEqual(each.data);
  });

  it.each<[string, UNet2DOptions, number[]]>([
    ['rectangular images', { sample_size: [8, 16] }, [2, 3, 8, 16]],
    ['odd channel counts', { in_channels: 5, out_channels: 5 }, [2, 5, 8, 8]],
    ['a learned variance', { out_channels: 6 }, [2, 6, 8, 8]],
    ['scale and shift by time', { resnet_time_scale_shift: 'scale_shift' }, [2, 3, 8, 8]],
    ['no attention in the middle', { add_attention: false }, [2, 3, 8, 8]],
    ['several heads and a scaled middle', { attention_head_dim: 4, mid_block_scale_factor: 2 }, [2, 3, 8, 8]],
    [
      'the other padding, centring, relu',
      { downsample_padding: 0, center_input_sample: true, act_fn: 'relu' },
      [2, 3, 8, 8],
    ],
  ])('has the right shape with %s', async (_name, options, dims) => {
    const { dims: actual, data } = await outputs(new UNet2DModel({ ...small, ...options }), 2, [5]);
    expect(actual).toEqual(dims);
    expect(data.every(Number.isFinite)).toBe(true);
  });

  it('gives with learned timesteps what it gives with sines, where these are what was learned', async () => {
    const sines = new UNet2DModel(small);
    const options = { ...small, time_embedding_type: 'learned', num_train_timesteps: 10 } as const;
    const weights = initialParameters(sines, 0);
    const table = Array.from({ length: 10 }, (_, t) =>
      Array.from({ length: 8 }, (_, i) => (i < 4 ? Math.cos : Math.sin)(t * 10_000 ** (-(i % 4) / 4))),
    );
    const learned = new UNet2DModel(
      options,
      new Map([...weights, ['time_proj.weight', Float32Array.from(table.flat())]]),
    );
    expect(learned.takesFractionalTimesteps).toBe(false);
    const given = new UNet2DModel(small, weights);
    const [a, b] = [await outputs(learned, 2, [3, 9]), await outputs(given, 2, [3, 9])];
    // The table was rounded to float32.
    a.data.forEach((value, i) => {
      expect(value).toBeCloseTo(b.data[i] as number, 5);
    });
  });

  it('depends on the class where there are classes', async () => {
    const model = new UNet2DModel({ ...small, num_class_embeds: 4 });
    const [a, b] = [await outputs(model, 2, [5], [0, 1]), await outputs(model, 2, [5], [1, 1])];
    expect(a.data.slice(0, 192)).not.toEqual(b.data.slice(0, 192));
    expect(a.data.slice(192)).toEqual(b.data.slice(192));
  });
});

const skipDown = { down_block_types: ['SkipDownBlock2D', 'SkipDownBlock2D'] };
const skipUp = { up_block_types: ['SkipUpBlock2D', 'SkipUpBlock2D'] };

describe('the config', () => {
  it('takes the defaults of the constructor of diffusers, and survives JSON', () => {
    const { config } = new UNet2DModel({ sample_size: 32 });
    expect(config).toMatchObject({
      block_out_channels: [224, 448, 672, 896],
      attention_head_dim: 8,
      norm_eps: 1e-5,
      flip_sin_to_cos: true,
      freq_shift: 0,
      downsample_padding: 1,
    });
    const json = JSON.parse(JSON.stringify({ ...config, _diffusers_version: '0.30.3' }));
    expect(modelFromConfig(json).config).toEqual(config);
  });

  it('keeps a condition that only it tells of, and has no key that diffusers would not know without one', () => {
    const options = { ...small, in_channels: 6, out_channels: 6 };
    expect(new UNet2DModel(options).config).not.toHaveProperty('condition_channels');
    const { config } = new UNet2DModel({ ...options, condition_channels: 3 });
    const { sampleShape, conditionChannels } = modelFromConfig(JSON.parse(JSON.stringify(config)));
    expect([sampleShape, conditionChannels]).toEqual([[3, 8, 8], 3]);
  });

  it('may leave the size open, which has parameters, and no samples yet', () => {
    const open = new UNet2DModel({ ...small, sample_size: null });
    expect(open.parameters.map(({ name }) => name)).toEqual(new UNet2DModel(small).parameters.map(({ name }) => name));
    expect(() => open.sampleShape).toThrow(ConfigError);
    expect(() => open.sampleShape).toThrow(/sample_size is null/);
  });

  it.each<[object, RegExp]>([
    [{ norm_num_groups: 3 }, /norm_num_groups 3 does not divide the 8 channels/],
    [{ attention_head_dim: 17 }, /attention_head_dim 17 is more than the 16 channels/],
    [{ sample_size: 9 }, /sample_size 9 must be a multiple of 2/],
    [{ freq_shift: 4 }, /freq_shift 4 is half the channels/],
    [{ mid_block_scale_factor: 0 }, /mid_block_scale_factor/],
    [{ condition_channels: 3 }, /condition_channels 3 must be fewer than the 3 in_channels/],
    // What diffusers takes, and cannot run.
    [{ norm_num_groups: null }, /norm_num_groups is null, but DownBlock2D needs a number/],
    [{ ...skipDown, in_channels: 4 }, /SkipDownBlock2D takes images of 3 channels, but in_channels is 4/],
    [{ ...skipUp, out_channels: 6 }, /SkipUpBlock2D draws an image of 3 channels, but out_channels is 6/],
    [{ ...skipUp, up_block_types: ['SkipUpBlock2D', 'UpBlock2D'] }, /UpBlock2D after SkipUpBlock2D/],
    [
      { ...skipDown, block_out_channels: [8, 38] },
      /norm_num_groups 9 does not divide the 38 channels of down_blocks.1/,
    ],
    [{ down_block_types: ['AttnSkipDownBlock2D', 'DownBlock2D'] }, /norm_num_groups 32 does not divide the 8 channels/],
    [
      {
        down_block_types: ['DownBlock2D', 'SkipDownBlock2D', 'DownBlock2D'],
        up_block_types: ['UpBlock2D', 'UpBlock2D', 'UpBlock2D'],
        block_out_channels: [8, 8, 8],
      },
      /DownBlock2D before SkipDownBlock2D/,
    ],
    [{ up_block_types: ['UpBlock2D'] }, /must be of one length/],
    [{ down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'] }, /down_block_types/],
    [{ time_embedding_type: 'sinusoidal' }, /time_embedding_type/],
    [{ time_embedding_type: 'learned' }, /time_embedding_type 'learned' needs num_train_timesteps/],
    [{ chanels: 3 }, /chanels/],
  ])('refuses %j', (options, message) => {
    expect(() => new UNet2DModel({ ...small, ...options } as UNet2DOptions)).toThrow(ConfigError);
    expect(() => new UNet2DModel({ ...small, ...options } as UNet2DOptions)).toThrow(message);
  });

  it.each([
    ['ddpm-cifar10', 35_746_307],
    ['ddpm-64', 38_390_019],
    ['default', 113_673_219],
    ['small', 2_736_099],
  ] as const)('has the preset %s of %d parameters', (name, count) => {
    const { parameters } = new UNet2DModel(unet2DPreset(name));
    expect(parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(count);
  });

  it('has no preset that is not counted above', () => {
    expect([...UNET_2D_PRESETS].sort()).toEqual(['ddpm-64', 'ddpm-cifar10', 'default', 'small']);
  });

  it('knows no other preset', () => {
    expect(() => unet2DPreset('ddpm-church' as UNet2DPreset)).toThrow(InvalidArgumentError);
  });
});

it('has the old names of attention under the present ones', () => {
  expect(currentParameterName('mid_block.attentions.0.query.weight')).toBe('mid_block.attentions.0.to_q.weight');
  expect(currentParameterName('mid_block.attentions.0.proj_attn.bias')).toBe('mid_block.attentions.0.to_out.0.bias');
  expect(currentParameterName('conv_in.weight')).toBe('conv_in.weight');
});

describe('keys of files', () => {
  const file = { _class_name: 'UNet2DModel', _diffusers_version: '0.40.0', ...small };
  const parameters = (json: object) => UNet2DModel.fromConfig(json).parameters.map(({ name }) => name);

  it('are taken where a later diffusers added them, with the value that changes nothing', () => {
    const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
    const later = { time_embedding_dim: null, mid_block_type: 'UNetMidBlock2D', some_new_part: null, new_flag: false };
    expect(parameters({ ...file, ...later, new_list: [] })).toEqual(parameters(file));
    expect(UNet2DModel.fromConfig({ ...file, ...later }).config).toEqual(UNet2DModel.fromConfig(file).config);
    expect(warn).not.toHaveBeenCalled();
    warn.mockRestore();
  });

  it('are named in one warning where they are not known, however often the file is opened', () => {
    const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
    for (let i = 0; i < 3; i++) UNet2DModel.fromConfig({ ...file, window_size: 7, gate: 'tanh', decay: 0.99 });
    expect(warn.mock.calls).toEqual([
      [
        'the config of the UNet2DModel has keys that are not known here and have no effect: window_size (7), gate ("tanh")',
      ],
    ]);
    warn.mockRestore();
  });

  it.each<[object, RegExp]>([
    [{ down_block_types: ['KDownBlock2D', 'AttnDownBlock2D'] }, /down_block_types/],
    [{ class_embed_type: 'projection' }, /class_embed_type/],
    [{ resnet_time_scale_shift: 'spatial' }, /resnet_time_scale_shift/],
    [{ mid_block_type: 'UNetMidBlock2DCrossAttn' }, /mid_block_type/],
    [{ downsample_type: 'fir' }, /downsample_type/],
    [{ quantization_config: { quant_method: 'bitsandbytes' } }, /quantization_config/],
  ])('are refused by name where they ask for what is not there: %j', (keys, message) => {
    expect(() => UNet2DModel.fromConfig({ ...file, ...keys })).toThrow(ConfigError);
    expect(() => UNet2DModel.fromConfig({ ...file, ...keys })).toThrow(message);
  });

  it('lead to no middle block, and to a time embedding of another length', () => {
    const model = UNet2DModel.fromConfig({ ...file, mid_block_type: null, time_embedding_dim: 20 });
    const shapes = new Map(model.parameters.map(({ name, shape }) => [name, shape]));
    expect([...shapes.keys()].filter((name) => name.startsWith('mid_block'))).toEqual([]);
    expect(shapes.get('time_embedding.linear_1.weight')).toEqual([20, 8]);
    expect(shapes.get('down_blocks.0.resnets.0.time_emb_proj.weight')).toEqual([8, 20]);
  });
});
