// What this package gives on from transformers.js. Importing this file loads all of transformers.js, so only the
// package's entry does.
import { env } from '@huggingface/transformers';
import { followEnv } from './environment.ts';

followEnv(env);

export { env, RawImage, Tensor } from '@huggingface/transformers';
