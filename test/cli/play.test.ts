import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { packageFile } from '../../src/files/package-files.ts';
import { runHere } from './run-cli.ts';

// test/browser opens the page itself.
describe('play', () => {
  it('refuses a port that there is not', async () => {
    const { code, stderr } = await runHere(['play', '--no-open', '--port', '70000']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/--port <number>/);
  });

  it('says that a port is in use, or that a checkout has no page yet', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { code, stderr } = await runHere(['play', '--no-open', '--port', String(port)]);
    server.close();
    expect(code).toBe(2);
    const isBuilt = existsSync(packageFile('dist/site/index.html'));
    expect(stderr).toMatch(isBuilt ? /port \d+ is in use.*give another one with --port/ : /npm run build first/);
  });
});
