import { choice, encodeMessage, field, list } from '../../files/protobuf.ts';

/*
 * The part of TensorBoard's event.proto, summary.proto, tensor.proto and plugins/hparams/*.proto that is written
 * (https://github.com/tensorflow/tensorboard/tree/master/tensorboard, Apache-2.0), and of google/protobuf/struct.proto.
 */

const IMAGE = {
  height: field(1, 'int32'),
  width: field(2, 'int32'),
  colorspace: field(3, 'int32'),
  encodedImageString: field(4, 'bytes'),
};
const DIM = { size: field(1, 'int64') };
const SHAPE = { dim: list(2, () => DIM) };
const TENSOR = {
  dtype: field(1, 'int32'),
  tensorShape: field(2, () => SHAPE),
  floatVal: list(5, 'float'),
  stringVal: list(8, 'bytes'),
};
const PLUGIN_DATA = { pluginName: field(1, 'string'), content: field(2, 'bytes') };
const METADATA = { pluginData: field(1, () => PLUGIN_DATA), dataClass: field(4, 'int32') };
// As in summary.proto, a oneof: a value of 0 is written.
const VALUE = {
  tag: field(1, 'string'),
  simpleValue: choice(2, 'float'),
  image: choice(4, () => IMAGE),
  tensor: choice(8, () => TENSOR),
  metadata: field(9, () => METADATA),
};
const SUMMARY = { value: list(1, () => VALUE) };
const SESSION_LOG = { status: field(1, 'int32') };
const EVENT = {
  wallTime: field(1, 'double'),
  step: field(2, 'int64'),
  fileVersion: field(3, 'string'),
  summary: field(5, () => SUMMARY),
  sessionLog: field(7, () => SESSION_LOG),
};

const SETTING_VALUE = {
  numberValue: choice(2, 'double'),
  stringValue: choice(3, 'string'),
  boolValue: choice(4, 'bool'),
};
/** An entry of a map. */
const SETTING = { key: choice(1, 'string'), value: choice(2, () => SETTING_VALUE) };
const SESSION_START = { hparams: list(1, () => SETTING), startTimeSecs: field(5, 'double') };
const SESSION_END = { status: field(1, 'int32'), endTimeSecs: field(2, 'double') };
const HPARAMS = { sessionStartInfo: field(3, () => SESSION_START), sessionEndInfo: field(4, () => SESSION_END) };

/** The bytes of an event message. Without a `step` it is that of step 0. */
export function encodeEvent(event: Readonly<Record<string, unknown>>): Uint8Array {
  return encodeMessage(EVENT, { wallTime: Date.now() / 1000, ...event });
}

/** A PNG file as an image of a summary. Its size is in the file's first chunk. */
export function imageValue(tag: string, png: Uint8Array): object {
  const header = new DataView(png.buffer, png.byteOffset, png.byteLength);
  // The colour types of PNG in summary.proto's numbers: grey, grey with alpha, RGB, RGBA; a palette is RGB.
  const colorspace = new Map([
    [0, 1],
    [4, 2],
    [2, 3],
    [3, 3],
    [6, 4],
  ]).get(header.getUint8(25));
  const image = {
    width: header.getUint32(16),
    height: header.getUint32(20),
    colorspace,
    encodedImageString: png,
  };
  return { tag, image };
}

const STRING = 7;
const FLOAT = 1;
const TENSOR_CLASS = 2;

/** Markdown, which the page "Text" shows. */
export function textValue(tag: string, text: string): object {
  const tensor = { dtype: STRING, tensorShape: { dim: [{ size: 1 }] }, stringVal: [new TextEncoder().encode(text)] };
  return { tag, metadata: { pluginData: { pluginName: 'text' }, dataClass: TENSOR_CLASS }, tensor };
}

/** The settings of a run, for the page "HParams". TensorBoard gathers those of several runs into its table. */
export function sessionStart(settings: Readonly<Record<string, string | number | boolean>>): object {
  const hparams = Object.entries(settings).map(([key, value]) => ({ key, value: settingValue(value) }));
  return hparamsValue('_hparams_/session_start_info', {
    sessionStartInfo: { hparams, startTimeSecs: Date.now() / 1000 },
  });
}

const STATUS = { completed: 1, failed: 2 } as const;

export function sessionEnd(outcome: keyof typeof STATUS): object {
  return hparamsValue('_hparams_/session_end_info', {
    sessionEndInfo: { status: STATUS[outcome], endTimeSecs: Date.now() / 1000 },
  });
}

function settingValue(value: string | number | boolean): object {
  if (typeof value === 'number') return { numberValue: value };
  return typeof value === 'boolean' ? { boolValue: value } : { stringValue: value };
}

/** The plugin reads the content of the metadata. Its tensor is a 0 that means nothing. */
function hparamsValue(tag: string, data: Readonly<Record<string, unknown>>): object {
  const content = encodeMessage(HPARAMS, data);
  const tensor = { dtype: FLOAT, tensorShape: { dim: [{ size: 1 }] }, floatVal: [0] };
  return { tag, metadata: { pluginData: { pluginName: 'hparams', content }, dataClass: TENSOR_CLASS }, tensor };
}
