// In a process that knows nothing of mine.ts: the folders open by their ONNX files.
import { pipeline } from 'iso-diffusion';

const generate = await pipeline('unconditional-image-generation', 'runs/bars/pipeline', { device: 'cpu' });
const image = await generate({ num_inference_steps: 3, seed: 0 });
console.log(JSON.stringify({ size: [image.width, image.height, image.channels] }));
