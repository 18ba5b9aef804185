import type { DType } from '../types.ts';

/** TensorProto.DataType of each dtype. */
export const ONNX_DATA_TYPE: Readonly<Record<DType, number>> = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};

export function dtypeFromOnnx(dataType: number | undefined): DType | undefined {
  return (Object.keys(ONNX_DATA_TYPE) as DType[]).find((dtype) => ONNX_DATA_TYPE[dtype] === dataType);
}
