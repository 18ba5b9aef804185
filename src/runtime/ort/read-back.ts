import { Graph } from '../../graph/graph.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { identity } from '../../graph/ops/index.ts';
import type { DType, Shape } from '../../graph/types.ts';
import { type RuntimeTensor, Session } from '../session.ts';

/**
 * Copies a tensor from the GPU to the host. `tensor.getData()` aborts the process on onnxruntime-node's webgpu
 * tensors (1.30), so an Identity session whose output stays on the host does the copy.
 */
export class ReadBack {
  private readonly sessions = new Map<string, Promise<Session>>();

  async toHost(tensor: RuntimeTensor): Promise<RuntimeTensor> {
    if (tensor.location === 'cpu') return tensor;
    const dtype: DType = tensor.type === 'int32' ? 'int32' : 'float32';
    const session = await this.session(dtype, tensor.dims);
    const { y } = await session.run({ x: tensor });
    return y ?? tensor;
  }

  async release(): Promise<void> {
    for (const session of this.sessions.values()) await (await session).release();
    this.sessions.clear();
  }

  private session(dtype: DType, shape: Shape): Promise<Session> {
    const key = `${dtype}/${shape.join('x')}`;
    const known = this.sessions.get(key);
    if (known) return known;
    const graph = new Graph('read_back');
    graph.output('y', identity(graph.input('x', dtype, shape)));
    const session = Session.create(writeOnnx(graph), 'webgpu');
    this.sessions.set(key, session);
    return session;
  }
}
