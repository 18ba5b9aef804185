/** `tsx draw-into-folder.ts PIPELINE FOLDER COUNT`: for tests that kill it. */
import { pipeline } from '../../src/index.ts';

const [model = '', folder = '', count = ''] = process.argv.slice(2);
const generate = await pipeline('unconditional-image-generation', model, { device: 'cpu' });
await generate.toFolder(folder, { count: Number(count), num_inference_steps: 20, seed: 3, batch_size: 4 });
await generate.dispose();
