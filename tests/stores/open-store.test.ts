import { jest } from '@jest/globals';
import { Redis } from 'ioredis';
import { ConfigurationError } from '../../src/errors.js';
import { MemoryStore } from '../../src/stores/MemoryStore.js';
import { openStore } from '../../src/stores/open-store.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';

/** How many entries a store keeps of twenty. */
async function kept(store: MemoryStore): Promise<number> {
  const keys = Array.from({ length: 20 }, (_, index) => String(index));
  const permit = { kind: 'guard', region: 'r', sequence: await store.guard('r') } as const;
  await store.fillMany(keys.map((key) => ({ key, value: 'x', ttlMs: 60_000, permit })));
  return (await store.readMany(keys)).filter(({ kind }) => kind === 'hit').length;
}

describe('openStore', () => {
  it.each([
    ['memory://', 20],
    ['memory:', 20],
    ['memory:///', 20],
    ['memory://?maxEntries=7', 7],
  ])('opens %s', async (url, entries) => {
    const store = openStore(url);
    expect(store).toBeInstanceOf(MemoryStore);
    expect(await kept(store as MemoryStore)).toBe(entries);
  });

  it('takes defaults for what the URL does not say', async () => {
    expect(await kept(openStore('memory://', { maxEntries: 5 }) as MemoryStore)).toBe(5);
    expect(await kept(openStore('memory://?maxEntries=7', { maxEntries: 5 }) as MemoryStore)).toBe(7);
  });

  it.each(['redis://127.0.0.1:1', 'rediss://user:secret@127.0.0.1:1/3', 'REDIS://127.0.0.1:1'])(
    'opens %s, without connecting yet',
    async (url) => {
      const store = openStore(url);
      expect(store).toBeInstanceOf(RedisStore);
      await store.close();
    },
  );

  it('opens a URL that works', async () => {
    const store = openStore(testRedisUrl());
    await store.ping();
    expect(await store.readMany([`${testPrefix()}x`])).toEqual([{ kind: 'miss' }]);
    await store.close();
  });

  it('wraps a client, and leaves it open', async () => {
    const client = new Redis(testRedisUrl(), { lazyConnect: true });
    const store = openStore(client);
    expect(store).toBeInstanceOf(RedisStore);
    await store.ping();
    await store.close();
    expect(await client.ping()).toBe('PONG');
    await client.quit();
  });

  it('passes a store through', () => {
    const store = new MemoryStore();
    expect(openStore(store)).toBe(store);
  });

  it.each([
    ['localhost:6379', /no store for localhost:/],
    ['', /can't be parsed/],
    ['redis', /can't be parsed/],
    ['memory://cache', /no host/],
    ['memory:///cache', /no path/],
    ['memory://?maxEntires=5', /no option "maxEntires"/],
    ['memory://?maxEntries=', /maxEntries/],
    ['memory://?maxEntries=many', /maxEntries/],
    ['memory://?maxEntries=0', /maxEntries/],
    [undefined, /must be a URL, a CacheStore or an ioredis client/],
    [null, /must be/],
    [{}, /must be/],
    [{ call: 1 }, /must be/],
  ])('refuses %p', (source, message) => {
    const open = () => openStore(source as string);
    expect(open).toThrow(ConfigurationError);
    expect(open).toThrow(message);
  });

  it('shows no password', () => {
    expect(() => openStore('postgres://user:secret@host/db')).toThrow(/^((?!secret).)*$/);
    expect(() => openStore('redis://user:secret@host:port')).toThrow(/^((?!secret).)*$/);
  });

  it('names the remedy when ioredis is not installed', async () => {
    jest.resetModules();
    jest.unstable_mockModule('ioredis', () => {
      throw Object.assign(new Error("Cannot find package 'ioredis'"), { code: 'ERR_MODULE_NOT_FOUND' });
    });
    const fresh = await import('../../src/stores/open-store.js');
    const store = fresh.openStore('redis://127.0.0.1:1');
    for (let round = 0; round < 2; round += 1) {
      await expect(store.ping()).rejects.toMatchObject({
        code: 'PLUS_CONFIGURATION',
        message: expect.stringContaining('npm install ioredis'),
      });
    }
    await store.close();
  });
});
