import protobuf from 'protobufjs/light.js';

const SETTINGS: protobuf.IMapField = { keyType: 'string', type: 'Value', id: 1 };

/**
 * The part of TensorBoard's event.proto, summary.proto, tensor.proto and plugins/hparams/*.proto that is written
 * (https://github.com/tensorflow/tensorboard/tree/master/tensorboard, Apache-2.0), and of google/protobuf/struct.proto.
 */
const root = protobuf.Root.fromJSON({
  nested: {
    Event: {
      fields: {
        wallTime: { type: 'double', id: 1 },
        step: { type: 'int64', id: 2 },
        fileVersion: { type: 'string', id: 3 },
        summary: { type: 'Summary', id: 5 },
        sessionLog: { type: 'SessionLog', id: 7 },
      },
    },
    Summary: {
      fields: { value: { rule: 'repeated', type: 'Value', id: 1 } },
      nested: {
        Value: {
          fields: {
            tag: { type: 'string', id: 1 },
            simpleValue: { type: 'float', id: 2 },
            image: { type: 'Image', id: 4 },
            tensor: { type: 'Tensor', id: 8 },
            metadata: { type: 'Metadata', id: 9 },
          },
          // As in summary.proto: without the oneof, a value of 0 would not be written at all.
          oneofs: { value: { oneof: ['simpleValue', 'image', 'tensor'] } },
        },
        Image: {
          fields: {
            height: { type: 'int32', id: 1 },
            width: { type: 'int32', id: 2 },
            colorspace: { type: 'int32', id: 3 },
            encodedImageString: { type: 'bytes', id: 4 },
          },
        },
        Metadata: { fields: { pluginData: { type: 'PluginData', id: 1 }, dataClass: { type: 'int32', id: 4 } } },
        PluginData: { fields: { pluginName: { type: 'string', id: 1 }, content: { type: 'bytes', id: 2 } } },
        Tensor: {
          fields: {
            dtype: { type: 'int32', id: 1 },
            tensorShape: { type: 'Shape', id: 2 },
            floatVal: { rule: 'repeated', type: 'float', id: 5 },
            stringVal: { rule: 'repeated', type: 'bytes', id: 8 },
          },
        },
        Shape: { fields: { dim: { rule: 'repeated', type: 'Dim', id: 2 } } },
        Dim: { fields: { size: { type: 'int64', id: 1 } } },
      },
    },
    SessionLog: { fields: { status: { type: 'int32', id: 1 } } },
    HParamsPluginData: {
      fields: {
        sessionStartInfo: { type: 'SessionStartInfo', id: 3 },
        sessionEndInfo: { type: 'SessionEndInfo', id: 4 },
      },
      nested: {
        SessionStartInfo: {
          fields: {
            hparams: SETTINGS,
            startTimeSecs: { type: 'double', id: 5 },
          },
        },
        SessionEndInfo: { fields: { status: { type: 'int32', id: 1 }, endTimeSecs: { type: 'double', id: 2 } } },
        Value: {
          fields: {
            numberValue: { type: 'double', id: 2 },
            stringValue: { type: 'string', id: 3 },
            boolValue: { type: 'bool', id: 4 },
          },
          oneofs: { kind: { oneof: ['numberValue', 'stringValue', 'boolValue'] } },
        },
      },
    },
  },
});
const eventType = root.lookupType('Event');
const hparamsType = root.lookupType('HParamsPluginData');

/** The bytes of an event message. Without a `step` it is that of step 0. */
export function encodeEvent(event: Readonly<Record<string, unknown>>): Uint8Array {
  return eventType.encode(eventType.create({ wallTime: Date.now() / 1000, ...event })).finish();
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
  const hparams = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, settingValue(value)]));
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
  const content = hparamsType.encode(hparamsType.create(data)).finish();
  const tensor = { dtype: FLOAT, tensorShape: { dim: [{ size: 1 }] }, floatVal: [0] };
  return { tag, metadata: { pluginData: { pluginName: 'hparams', content }, dataClass: TENSOR_CLASS }, tensor };
}
