import { withFolderLock } from '../../src/files/folder-lock.ts';

/** Holds the lock of the folder given as argument until it is killed. */
await withFolderLock(process.argv[2] ?? '', 'wait', async () => {
  process.stdout.write('locked\n');
  await new Promise((resolve) => setTimeout(resolve, 60_000));
});
