// Everything of one's own under its name; `--import ./build/mine.js` hands it to the command line.
import { extractors, losses, metrics, models, schedulers } from 'iso-diffusion';
import { EulerScheduler } from './euler-scheduler.js';
import { meanDistance } from './mean-distance.js';
import { pseudoHuber } from './pseudo-huber.js';
import { Quadrants } from './quadrants.js';
import { TinyDiT } from './tiny-dit.js';

models.register('TinyDiT', TinyDiT);
schedulers.register('EulerScheduler', EulerScheduler);
losses.register('pseudo-huber', ({ delta }) => pseudoHuber(typeof delta === 'number' ? { delta } : {}));
metrics.register('mean-distance', meanDistance);
extractors.register('quadrants', async () => new Quadrants());
