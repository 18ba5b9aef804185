import { afterEach, expect, it, vi } from 'vitest';
import { modelNamed } from '../../src/cli/options/saved-model.ts';
import { MockHub } from '../hub/mock-hub.ts';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
});

it('HF_TOKEN=mirror-abc generate --model someone/x speaks of the token, not of the name', async () => {
  vi.stubEnv('HF_TOKEN', 'mirror-abc');
  vi.stubEnv('HF_ENDPOINT', '');
  vi.stubGlobal('fetch', async () => {
    throw new TypeError('fetch failed');
  });
  await expect(modelNamed('someone/x')).rejects.toThrow(/token in HF_TOKEN does not begin with 'hf_'.*HF_ENDPOINT/);
});

it('and sends it to the mirror that HF_ENDPOINT names', async () => {
  const hub = new MockHub();
  await hub.start();
  try {
    hub.token = 'another';
    vi.stubEnv('HF_TOKEN', 'mirror-abc');
    vi.stubEnv('HF_ENDPOINT', hub.endpoint);
    await expect(modelNamed('someone/x')).rejects.toThrow(/status 401.*whether the token, in HF_TOKEN/);
    expect(hub.requests[0]?.authorization).toBe('Bearer mirror-abc');
  } finally {
    await hub.stop();
  }
});

it('a token that no header can hold is named', async () => {
  vi.stubEnv('HF_TOKEN', 'two words');
  await expect(modelNamed('someone/x')).rejects.toThrow(/the Hub's token in HF_TOKEN has a blank/);
  await expect(modelNamed('no-id')).rejects.toThrow(/not a Hub id/);
});
