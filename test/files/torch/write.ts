import { zipSync } from 'fflate';

type Tensor = { readonly shape: readonly number[]; readonly data: Float32Array<ArrayBuffer> };

/** A state dict of float32 tensors as torch.save writes it. */
export function torchFile(tensors: ReadonlyMap<string, Tensor>, format: 'zip' | 'legacy'): Uint8Array {
  const list = [...tensors.values()].map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const pickle = stateDict(tensors, format === 'legacy');
  if (format === 'zip') {
    const storages = list.map((bytes, key) => [`archive/data/${key}`, bytes]);
    return zipSync({ 'archive/data.pkl': pickle, ...Object.fromEntries(storages) }, { level: 0 });
  }
  const system = `}(${text('protocol_version')}${int(1001)}${text('little_endian')}\x88u`;
  const keys = `](${list.map((_, key) => text(String(key))).join('')}e`;
  const head = ['\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19', int(1001), system].map(program);
  const storages = list.flatMap((bytes) => [le64(bytes.length / 4), bytes]);
  return Buffer.concat([...head, pickle, program(keys), ...storages]);
}

function stateDict(tensors: ReadonlyMap<string, Tensor>, legacy: boolean): Buffer {
  const empty = 'ccollections\nOrderedDict\n)R';
  const items = [...tensors].map(([name, { shape, data }], key) => {
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, side) => product * side, 1));
    const id = `${text('storage')}ctorch\nFloatStorage\n${text(String(key))}${text('cpu')}${int(data.length)}`;
    const storage = `(${id}${legacy ? 'N' : ''}tQ`;
    const sizes = (values: readonly number[]) => `(${values.map(int).join('')}t`;
    const values = `${storage}${int(0)}${sizes(shape)}${sizes(strides)}\x89${empty}`;
    return `${text(name)}ctorch._utils\n_rebuild_tensor_v2\n(${values}tR`;
  });
  return program(`${empty}(${items.join('')}u`);
}

const program = (code: string) => Buffer.from(`\x80\x02${code}.`, 'latin1');
const int = (value: number) => `J${le32(value)}`;
const text = (value: string) => `X${le32(value.length)}${value}`;

function le32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes.toString('latin1');
}

function le64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}
