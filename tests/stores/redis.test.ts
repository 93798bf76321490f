import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import { ConfigurationError } from '../../src/errors.js';
import type { FillEntry } from '../../src/stores/CacheStore.js';
import type { RedisClientLike } from '../../src/stores/redis/redis-client.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { describeStoreContract, type StoreUnderTest } from '../contract/store-contract.js';
import { describeStoreModel } from '../contract/store-model.js';
import { stopProcess } from '../harness/stop-process.js';
import { type RunningServers, startServers, testPrefix, testRedisUrl } from '../harness/servers.js';

const LONG = 60_000;

let shared: Redis;
let prefixes = 0;

beforeAll(() => {
  shared = new Redis(testRedisUrl());
});
afterAll(() => shared.quit());

async function keysBelow(client: Redis, prefix: string): Promise<string[]> {
  const keys = new Set<string>();
  for await (const batch of client.scanStream({ match: `${prefix}*`, count: 10_000 })) {
    (batch as string[]).forEach((key) => keys.add(key));
  }
  return [...keys];
}

async function removeBelow(client: Redis, prefix: string): Promise<void> {
  const keys = await keysBelow(client, prefix);
  for (let at = 0; at < keys.length; at += 1_000) {
    await client.unlink(keys.slice(at, at + 1_000));
  }
}

async function makeStore(): Promise<StoreUnderTest> {
  prefixes += 1;
  const prefix = `${testPrefix()}${prefixes}:`;
  const loseEverything = () => removeBelow(shared, prefix);
  return { store: new RedisStore(shared), prefix, loseEverything, dispose: loseEverything };
}

// all of them are below
describeStoreContract('RedisStore', makeStore, { share: 0.1 });

describe('RedisStore leaves nothing without an expiry', () => {
  describeStoreModel(makeStore, async ({ prefix }) => {
    const keys = await keysBelow(shared, prefix);
    const expiries = await Promise.all(keys.map((key) => shared.pttl(key)));
    // -1 is a key without expiry, -2 one that has ended since.
    expect(expiries).not.toContain(-1);
    expect(Math.max(0, ...expiries)).toBeLessThanOrEqual(24 * 60 * 60 * 1_000);
  });
});

/** Passes commands on, and tells which. */
class Spy implements RedisClientLike {
  readonly commands: string[] = [];

  constructor(
    readonly client: Redis,
    readonly before: (command: string, args: string[]) => Promise<void> = async () => {},
  ) {}

  async call(command: string, args: string[]): Promise<unknown> {
    this.commands.push(command);
    await this.before(command, args);
    return this.client.call(command, args);
  }
}

describe('RedisStore on a server of its own', () => {
  let servers: RunningServers;
  let url: string;
  let client: Redis;

  beforeAll(async () => {
    servers = await startServers({ redis: true });
    url = servers.redis!.url;
    client = new Redis(url);
  });
  beforeEach(async () => {
    await client.flushall();
  });
  afterAll(async () => {
    await client.quit();
    await servers.stop();
  });

  const region = 'tag';
  const entries = (count: number) => Array.from({ length: count }, (_, index) => ({ key: `tag:${index}`, region }));
  const keysOf = (count: number) => entries(count).map(({ key }) => key);
  const guardOf = async (store: RedisStore): Promise<FillEntry['permit']> => ({
    kind: 'guard',
    region,
    sequence: await store.guard(region),
  });
  const fill = async (store: RedisStore, count = 1): Promise<boolean[]> => {
    const permit = await guardOf(store);
    return store.fillMany(keysOf(count).map((key) => ({ key, value: 'row', ttlMs: LONG, permit })));
  };
  const hit = { kind: 'hit', value: 'row' };

  /** Every operation once, on `count` entries. */
  const everything = async (store: RedisStore, count: number) => {
    await fill(store, count);
    await store.readMany(keysOf(count), { leaseMs: LONG });
    await store.lockMany(entries(count), 'writer', LONG);
    await store.releaseMany(
      entries(count).map((entry) => ({ ...entry, value: 'row', ttlMs: LONG })),
      'writer',
    );
    await store.evictMany(entries(count));
  };

  describe('round trips', () => {
    it('are one per batch', async () => {
      const spy = new Spy(client);
      const store = new RedisStore(spy);
      await everything(store, 1);
      spy.commands.length = 0;
      await everything(store, 1_000);
      // The first two are the guard and the fill.
      expect(spy.commands).toEqual(['EVALSHA', 'EVALSHA', 'EVALSHA', 'EVALSHA', 'EVALSHA', 'EVALSHA']);
      spy.commands.length = 0;
      await store.readMany(keysOf(2_001));
      expect(spy.commands).toEqual(['EVALSHA', 'EVALSHA', 'EVALSHA']);
      spy.commands.length = 0;
      await store.readMany([]);
      await store.evictMany([]);
      expect(spy.commands).toEqual([]);
    });

    it('are two when the server has forgotten its scripts, and one again from then on', async () => {
      const spy = new Spy(client);
      const store = new RedisStore(spy);
      await everything(store, 1);
      for (let round = 0; round < 2; round += 1) {
        await client.script('FLUSH');
        spy.commands.length = 0;
        await fill(store);
        expect(await store.readMany(keysOf(1))).toEqual([hit]);
        expect(await store.readMany(keysOf(1))).toEqual([hit]);
        expect(spy.commands).toEqual(['EVALSHA', 'EVAL', 'EVALSHA', 'EVAL', 'EVALSHA', 'EVAL', 'EVALSHA']);
      }
    });
  });

  it('gives one lease to several clients that race for it', async () => {
    const stores = Array.from({ length: 4 }, () => new RedisStore(url));
    await Promise.all(stores.map((store) => store.ping()));
    for (let round = 0; round < 50; round += 1) {
      const found = await Promise.all(stores.map((store) => store.readMany([`race:${round}`], { leaseMs: LONG })));
      expect(found.flat().filter(({ kind }) => kind === 'leased')).toHaveLength(1);
    }
    await Promise.all(stores.map((store) => store.close()));
  });

  it('knows its own lease when a read is sent again because its reply was lost', async () => {
    await new RedisStore(client).readMany(['loads the script']);
    const twice = new Spy(client, async (command, args) => void (await client.call(command, args)));
    expect(await new RedisStore(twice).readMany(keysOf(1), { leaseMs: LONG })).toEqual([
      { kind: 'leased', token: expect.stringMatching(/./) },
    ]);
  });

  it('takes foreign or broken content for absent', async () => {
    const store = new RedisStore(client);
    const contents = ['', 'x', 'w', 'w{}', 'w[]', 'w1', 'w{"holders":1}', 'w{"holders":{}}', 'w{"hold', '\u0000'];
    for (const [index, content] of contents.entries()) {
      await client.set(`tag:${index}`, content);
    }
    const found = await store.readMany(keysOf(contents.length), { leaseMs: LONG });
    expect(found.map(({ kind }) => kind)).toEqual(contents.map(() => 'leased'));
  });

  describe('clear', () => {
    it('takes thousands of entries, and leaves the keys of others', async () => {
      const store = new RedisStore(client);
      await fill(store, 5_000);
      await client.mset('ta', 'x', 'tax', 'x', 'other:tag:1', 'x');
      await client.hset('tag:hash', 'field', 'x');
      await store.clear('tag:');
      expect((await keysBelow(client, '')).toSorted()).toEqual(['other:tag:1', 'ta', 'tag:hash', 'tax']);
    });

    it('lets nothing from before survive, though the scan has passed the place where it is filled', async () => {
      const direct = new RedisStore(client);
      for (let round = 0; round < 5; round += 1) {
        await fill(direct, 5_000);
        const lateKeys = Array.from({ length: 200 }, (_, index) => `tag:late:${index}`);
        const leases = await direct.readMany(lateKeys, { leaseMs: LONG });
        const guard = await guardOf(direct);
        const fills = lateKeys.flatMap((key, index): FillEntry[] => {
          const token = leases[index]?.kind === 'leased' ? leases[index].token : '';
          return [
            { key, value: 'old', ttlMs: LONG, permit: { kind: 'lease', token } },
            { key: `${key}:guarded`, value: 'old', ttlMs: LONG, permit: guard },
          ];
        });
        let steps = 0;
        const store = new RedisStore(
          new Spy(client, async (command) => {
            if (command === 'SCAN') {
              steps += 1;
              await direct.fillMany(fills);
            }
          }),
        );
        await store.clear('tag:');
        expect(steps).toBeGreaterThan(4);
        expect(await direct.fillMany(fills)).toEqual(fills.map(() => false));
        expect(await keysBelow(client, 'tag:')).toEqual([]);
      }
    });

    it('refuses the empty prefix', async () => {
      await expect(new RedisStore(client).clear('')).rejects.toThrow(ConfigurationError);
    });
  });

  describe('out of memory', () => {
    beforeEach(() => client.config('SET', 'maxmemory-policy', 'noeviction'));
    afterEach(() => client.config('SET', 'maxmemory', '0'));

    it('locks, releases, evicts and clears all the same', async () => {
      const store = new RedisStore(client);
      await fill(store, 3);
      await client.config('SET', 'maxmemory', '1');
      await expect(client.set('x', 'y')).rejects.toThrow('OOM');

      await store.lockMany(entries(3), 'first', LONG);
      await store.lockMany(entries(3), 'second', LONG);
      await store.evictMany(entries(1));
      await store.clear('tag:1');
      expect(await store.readMany(keysOf(3), { leaseMs: LONG })).toEqual(keysOf(3).map(() => ({ kind: 'miss' })));
      await store.releaseMany(entries(3), 'first');
      expect(await keysBelow(client, 'tag')).toHaveLength(3);
      await store.releaseMany(
        entries(3).map((entry) => ({ ...entry, value: 'row', ttlMs: LONG })),
        'second',
      );
      expect(await keysBelow(client, 'tag')).toEqual([]);
    });

    it('says so when it has to refuse a fill', async () => {
      const store = new RedisStore(client);
      const permit = await guardOf(store);
      await client.config('SET', 'maxmemory', '1');
      await expect(store.fillMany([{ key: 'tag:1', value: 'row', ttlMs: LONG, permit }])).rejects.toThrow('OOM');
    });
  });

  describe('its client', () => {
    it('stays open when it was handed in, though the store is closed', async () => {
      const store = new RedisStore(client);
      await store.close();
      await store.close();
      expect(await client.ping()).toBe('PONG');
      await expect(store.ping()).rejects.toThrow('closed');
    });

    it('is refused if it is one of Redis Cluster or adds a prefix', async () => {
      const cluster = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true });
      expect(() => new RedisStore(cluster)).toThrow('RedisClusterStore');
      cluster.disconnect();
      const prefixed = new Redis(url, { keyPrefix: 'app:', lazyConnect: true });
      expect(() => new RedisStore(prefixed)).toThrow('keyPrefix');
      prefixed.disconnect();
    });

    const connections = async () =>
      ((await client.client('LIST')) as string).split('\n').filter((line) => line.includes('name=mikro-orm-plus'));

    it('is opened at the first use of a URL, and closed with the store', async () => {
      const store = new RedisStore(url);
      expect(await connections()).toHaveLength(0);
      await Promise.all([store.ping(), fill(store), store.readMany(keysOf(1))]);
      expect(await connections()).toHaveLength(1);
      await store.close();
      for (let wait = 0; wait < 3_000 && (await connections()).length > 0; wait += 1) {
        await sleep(10);
      }
      expect(await connections()).toHaveLength(0);
      await store.close();
      await expect(store.ping()).rejects.toThrow('closed');
    });

    it('finishes what is under way before it closes', async () => {
      const store = new RedisStore(url);
      await store.ping();
      const locked = store.lockMany(entries(100), 'writer', LONG);
      await store.close();
      await locked;
      expect(await keysBelow(client, 'tag:')).toHaveLength(100);
    });

    it('connects again after its connection was cut, and to a server that forgot everything', async () => {
      const store = new RedisStore(url);
      await fill(store);
      const permit = await guardOf(store);
      await client.call('CLIENT', ['KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
      expect(await store.readMany(keysOf(1))).toEqual([hit]);
      await client.flushall();
      await client.script('FLUSH');
      await client.call('CLIENT', ['KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
      expect(await store.fillMany([{ key: 'tag:0', value: 'old', ttlMs: LONG, permit }])).toEqual([false]);
      expect(await fill(store)).toEqual([true]);
      await store.close();
    });

    it('fails soon, and quietly, when there is no server', async () => {
      const store = new RedisStore('redis://127.0.0.1:1');
      const start = performance.now();
      await expect(store.ping()).rejects.toThrow('max retries');
      await expect(store.readMany(['x'])).rejects.toThrow('max retries');
      expect(performance.now() - start).toBeLessThan(10_000);
      await store.close();
    });

    it('does not keep the store from closing when the server hangs', async () => {
      const store = new RedisStore(url);
      await store.ping();
      await stopProcess(servers.redis!.pid);
      try {
        const start = performance.now();
        const pinged = store.ping().catch(() => 'rejected');
        await store.close();
        expect(performance.now() - start).toBeLessThan(10_000);
        expect(await pinged).toBe('rejected');
      } finally {
        process.kill(servers.redis!.pid, 'SIGCONT');
        await sleep(50);
      }
    });
  });

  it('can do soft locks, for all processes', () => {
    expect(new RedisStore(client).capabilities).toEqual({ softLocks: true, shared: true });
  });
});
