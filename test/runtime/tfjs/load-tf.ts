import { createRequire } from 'node:module';
import type * as Tf from '@tensorflow/tfjs';

/** tfjs by its CommonJS entry: its ES modules do not resolve in Node. */
export const tf: typeof Tf = createRequire(import.meta.url)('@tensorflow/tfjs');
// Its advice to use tfjs-node instead would be printed in every test.
tf.env().set('PROD', true);
