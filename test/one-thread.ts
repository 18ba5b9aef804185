import { limitThreads } from '../src/threads/threads.ts';

// Each of two workers has one of two cores, and the models of tests are small: a second thread would wait for work, busily.
limitThreads(1);
