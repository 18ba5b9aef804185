import * as z from 'zod';

const side = z.int().min(1).max(4096);
const pair = z.tuple([side, side]);
const named = { name: z.string() };
const padding = z.enum(['same', 'valid']);
const activation = z.enum(['linear', 'relu', 'softmax']);
const channelsLast = z.literal('channels_last');

const layer = z.discriminatedUnion('class_name', [
  z.object({
    class_name: z.literal('InputLayer'),
    config: z.object({
      ...named,
      batch_input_shape: z.tuple([z.null(), side, side, z.literal(3)]),
    }),
  }),
  z.object({
    class_name: z.literal('Conv2D'),
    config: z.object({
      ...named,
      filters: side,
      kernel_size: pair,
      strides: pair,
      padding,
      activation,
      use_bias: z.boolean(),
      data_format: channelsLast,
      dilation_rate: z.tuple([z.literal(1), z.literal(1)]),
    }),
  }),
  z.object({
    class_name: z.literal('BatchNormalization'),
    config: z.object({
      ...named,
      axis: z.literal([3, -1]),
      epsilon: z.number().positive(),
      center: z.boolean(),
      scale: z.boolean(),
    }),
  }),
  z.object({ class_name: z.literal('Activation'), config: z.object({ ...named, activation }) }),
  ...(['MaxPooling2D', 'AveragePooling2D'] as const).map((name) =>
    z.object({
      class_name: z.literal(name),
      config: z.object({ ...named, pool_size: pair, strides: pair, padding, data_format: channelsLast }),
    }),
  ),
  z.object({
    class_name: z.literal('Concatenate'),
    config: z.object({ ...named, axis: z.literal([3, -1]) }),
  }),
  z.object({ class_name: z.literal('Flatten'), config: z.object(named) }),
  z.object({ class_name: z.literal('Dropout'), config: z.object(named) }),
  z.object({
    class_name: z.literal('Dense'),
    config: z.object({ ...named, units: side, activation, use_bias: z.boolean() }),
  }),
]);

/** Of each layer, one node: pairs of a layer's name and node 0, tensor 0. */
const inbound = z.array(z.array(z.tuple([z.string(), z.literal(0), z.literal(0)], z.unknown()))).max(1);

const functional = z.object({
  class_name: z.enum(['Model', 'Functional']),
  config: z.object({
    layers: z.array(z.intersection(layer, z.object({ inbound_nodes: inbound }))).max(10_000),
    output_layers: z.array(z.tuple([z.string(), z.literal(0), z.literal(0)])).length(1),
  }),
});

/** A functional Keras model on images [height, width, 3], as tfjs saves it or tensorflowjs_converter writes it. */
export const topology = z.union([
  z.object({ model_config: functional }).transform(({ model_config }) => model_config.config),
  functional.transform(({ config }) => config),
]);
export type Topology = z.infer<typeof topology>;
export type Layer = Topology['layers'][number];
