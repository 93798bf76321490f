import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { jest } from '@jest/globals';
import { MemcacheNode } from 'memcache';
import { ConfigurationError } from '../../src/errors.js';
import { MemcachedStore, openMemcachedStore } from '../../src/memcached.js';
import type { FillEntry } from '../../src/stores/CacheStore.js';
import type { MemcachedConnection } from '../../src/stores/memcached/servers.js';
import { describeStoreContract } from '../contract/store-contract.js';
import { type RunningServers, startServers } from '../harness/servers.js';
import { stopProcess } from '../harness/stop-process.js';
import { typescriptArgs } from '../harness/typescript-args.js';

const LONG = 60_000;

let servers: RunningServers;
let url: string;
let raw: MemcacheNode;

beforeAll(async () => {
  servers = await startServers({ memcached: true });
  url = servers.memcached!.url;
  raw = await connect(url);
});
afterAll(async () => {
  await raw.disconnect();
  await servers.stop();
});

const portOf = (ofUrl: string) => Number(new URL(ofUrl).port);

/** Its connection ends by itself when nothing was asked for so long. */
const IDLE_MS = 600_000;
const nodeFor = (ofUrl: string) => new MemcacheNode('127.0.0.1', portOf(ofUrl), { timeout: IDLE_MS });

async function connect(to: string): Promise<MemcacheNode> {
  const node = nodeFor(to);
  await node.connect();
  return node;
}

const loseEverything = async () => void (await raw.command('flush_all'));

/** The names of all items of a server. */
async function namesOn(ofUrl: string): Promise<string[]> {
  const node = await connect(ofUrl);
  const dump = await new Promise<string>((resolve) => {
    let text = '';
    node.socket!.removeAllListeners('data').on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.endsWith('END\r\n')) resolve(text);
    });
    node.socket!.write('lru_crawler metadump all\r\n');
  });
  await node.disconnect();
  return Array.from(dump.matchAll(/^key=(\S+)/gm), ([, name]) => decodeURIComponent(name!));
}

let prefixes = 0;
const newPrefix = () => `test:${(prefixes += 1)}:`;

describeStoreContract(
  'MemcachedStore',
  async () => {
    const store = new MemcachedStore(url);
    return { store, prefix: newPrefix(), loseEverything, dispose: () => store.close() };
  },
  { softLocks: false, largeValueBytes: 500_000 },
);

describe('MemcachedStore', () => {
  let store: MemcachedStore;
  let region: string;
  let key: string;

  beforeEach(() => {
    store = new MemcachedStore(url);
    region = `${newPrefix()}tag`;
    key = `${region}:1`;
  });
  afterEach(() => store.close());

  const guardOf = async (of: string, by = store): Promise<FillEntry['permit']> => ({
    kind: 'guard',
    region: of,
    sequence: await by.guard(of),
  });
  const fillKeys = async (keys: string[], value = 'row', by = store): Promise<boolean[]> => {
    const permit = await guardOf(region, by);
    return by.fillMany(keys.map((each) => ({ key: each, value, ttlMs: LONG, permit })));
  };
  const leaseOf = async (of: string, by = store): Promise<FillEntry['permit']> => {
    const [found] = await by.readMany([of], { leaseMs: LONG });
    return { kind: 'lease', token: found?.kind === 'leased' ? found.token : '' };
  };
  const hit = { kind: 'hit', value: 'row' };

  it('can do no soft locks, but is shared by all processes', () => {
    expect(store.capabilities).toEqual({ softLocks: false, shared: true });
  });

  it.each([
    ['absent', async () => {}],
    ['dead since a clear', async () => store.clear(`${region}:`)],
  ])('gives one lease to several clients that race for an entry that is %s', async (_, step) => {
    const stores = Array.from({ length: 4 }, () => new MemcachedStore(url));
    const keys = Array.from({ length: 50 }, (__, at) => `${region}:race:${at}`);
    await fillKeys([key, ...(_ === 'absent' ? [] : keys)]);
    await step();
    for (const each of keys) {
      const found = await Promise.all(stores.map((one) => one.readMany([each], { leaseMs: LONG })));
      expect(found.flat().filter(({ kind }) => kind === 'leased')).toHaveLength(1);
    }
    await Promise.all(stores.map((one) => one.close()));
  });

  it('reads what others filled, and refuses what they fill after an evict', async () => {
    const other = new MemcachedStore(url);
    await fillKeys([key], 'row', other);
    expect(await store.readMany([key])).toEqual([hit]);
    await store.evictMany([{ key, region }]);
    const [lease, guard] = [await leaseOf(key, other), await guardOf(region, other)];
    await store.evictMany([{ key, region }]);
    await leaseOf(key);
    for (const permit of [lease, guard]) {
      expect(await other.fillMany([{ key, value: 'old', ttlMs: LONG, permit }])).toEqual([false]);
    }
    await other.close();
  });

  describe('keys', () => {
    it('may have any characters and length, and none is taken for another', async () => {
      const keys = [
        ' ',
        '\n',
        '\r\nflush_all\r\n',
        '\u0000',
        '\u007f',
        'é',
        'é',
        '🐎',
        '@',
        '#',
        'a b',
        'a\tb',
        '%20',
        '__proto__',
        'x'.repeat(200),
        'x'.repeat(250),
        'x'.repeat(1_000),
        `${'x'.repeat(999)}y`,
        '🐎'.repeat(500),
      ].flatMap((text) => [`${region}:${text}`, text, `${text}:${region}`, `#${text}`, `@${text}:`]);
      await store.evictMany(keys.map((each) => ({ key: each, region })));
      const permit = await guardOf(region);
      await fillKeys([key]);
      for (const [at, each] of keys.entries()) {
        const first = keys.indexOf(each);
        const [filled] = await store.fillMany([{ key: each, value: String(first), ttlMs: LONG, permit }]);
        expect([at, filled]).toEqual([at, true]);
      }
      const found = await store.readMany(keys);
      expect(found).toEqual(keys.map((each) => ({ kind: 'hit', value: String(keys.indexOf(each)) })));
      expect(await store.readMany([key])).toEqual([hit]);
      const names = await namesOn(url);
      expect(names.filter((name) => !/^[!-~]{1,220}$/.test(name))).toEqual([]);
      expect(names).toContain(key);
    });

    it('that look like a hash or a generation of others are not taken for it', async () => {
      await loseEverything();
      await fillKeys([`${region}:é`, key]);
      const names = await namesOn(url);
      const taken = names.filter((name) => name.startsWith('#') || name.startsWith('@'));
      expect(await store.readMany(taken)).toEqual(taken.map(() => ({ kind: 'miss' })));
      await store.evictMany(taken.map((each) => ({ key: each, region: 'other:region' })));
      expect(await store.readMany([key, `${region}:é`])).toEqual([hit, hit]);
    });
  });

  describe('values', () => {
    const tooLarge = 'x'.repeat(1_100_000);

    it.each([
      ['a lease', leaseOf],
      ['a guard', () => guardOf(region)],
    ])('that are too large are not stored, and the entry is free again (%s)', async (_, permitted) => {
      const small = `${region}:small`;
      const permit = await permitted(key);
      const other = await leaseOf(small);
      expect(
        await store.fillMany([
          { key, value: tooLarge, ttlMs: LONG, permit },
          { key: small, value: 'row', ttlMs: LONG, permit: other },
        ]),
      ).toEqual([false, true]);
      expect(await store.readMany([key, small], { leaseMs: LONG })).toEqual([
        { kind: 'leased', token: expect.anything() },
        hit,
      ]);
    });

    it.each([10_000, 60 * 60_000, 30 * 24 * 60 * 60_000, 365 * 24 * 60 * 60_000])(
      'of %p ms last so long on the server, and no more than 3 seconds longer',
      async (ttlMs) => {
        const permit = await guardOf(region);
        const start = performance.now();
        await store.fillMany([{ key, value: 'row', ttlMs, permit }]);
        expect(await store.readMany([key])).toEqual([hit]);
        const left = Number(/ t(\d+)/.exec((await raw.command(`mg ${key} t`)) as string)?.[1]);
        const gone = Math.ceil((performance.now() - start) / 1_000) - 1;
        expect(left).toBeGreaterThanOrEqual(ttlMs / 1_000 - gone);
        expect(left).toBeLessThanOrEqual(ttlMs / 1_000 + 3);
      },
    );

    it('may be given the longest life there is', async () => {
      await store.fillMany([{ key, value: 'row', ttlMs: 1e12, permit: await guardOf(region) }]);
      expect(await store.readMany([key])).toEqual([hit]);
    });

    it('that are foreign or broken are absent', async () => {
      const contents = ['x', 'v', 'r', 'v1', 'v9999999999999:', `v9999999999999:${'x'.repeat(22)}:row`, '\u0000', '{}'];
      const keys = contents.map((__, at) => `${region}:${at}`);
      for (const [at, content] of contents.entries()) {
        await raw.command(`set ${keys[at]} 0 0 ${content.length}\r\n${content}`);
      }
      await raw.command(`set ${region}:seq 0 0 3\r\nxyz`);
      expect((await store.readMany(keys)).map(({ kind }) => kind)).toEqual(keys.map(() => 'miss'));
      const found = await store.readMany(keys, { leaseMs: LONG });
      expect(found.map(({ kind }) => kind)).toEqual(keys.map(() => 'leased'));
      expect(await fillKeys([key])).toEqual([true]);
    });
  });

  describe('clear', () => {
    it('leaves nothing reachable, whatever becomes of the generations afterwards', async () => {
      await fillKeys([key]);
      await store.clear(`${region}:`);
      const generation = `@${region}:`;
      for (let round = 0; round < 3; round += 1) {
        expect(await store.readMany([key])).toEqual([{ kind: 'miss' }]);
        expect(await raw.command(`delete ${generation}`)).toBe('DELETED');
      }
    });

    it('takes more than its prefix rather than less', async () => {
      const deep = `${region}:1:2:3:4:5:6:7:8:9:10`;
      await fillKeys([key, deep]);
      await store.clear(`${region}:1:2:3:4:5:6:7:8:9:`);
      expect(await store.readMany([key, deep])).toEqual([hit, { kind: 'miss' }]);
      await store.clear(`${region}:n`);
      expect(await store.readMany([key])).toEqual([{ kind: 'miss' }]);
    });

    it.each(['', 'tag'])('refuses the prefix %p', async (prefix) => {
      await expect(store.clear(prefix)).rejects.toThrow(ConfigurationError);
    });
  });

  it('stores nothing, and fails nothing, when the server has no room', async () => {
    let isFull = false;
    const connection = (): MemcachedConnection => {
      const node = nodeFor(url);
      return {
        connect: () => node.connect(),
        disconnect: () => node.disconnect(),
        isConnected: () => node.isConnected(),
        command: (command, options) =>
          isFull && /^(add|cas) /.test(command)
            ? Promise.reject(new Error('SERVER_ERROR out of memory storing object'))
            : node.command(command, options),
      };
    };
    const full = new MemcachedStore([{ id: 'full', connection }]);
    await fillKeys([key], 'row', full);
    const lease = await leaseOf(`${region}:2`, full);
    isFull = true;
    expect(await full.readMany([key, `${region}:3`], { leaseMs: LONG })).toEqual([hit, { kind: 'miss' }]);
    expect(await full.fillMany([{ key: `${region}:2`, value: 'row', ttlMs: LONG, permit: lease }])).toEqual([false]);
    await full.evictMany([{ key, region }]);
    expect(await fillKeys([key], 'row', full)).toEqual([false]);
    await full.clear(`${region}:`);
    expect(await full.readMany([key], { leaseMs: LONG })).toEqual([{ kind: 'miss' }]);
    await full.close();
  });

  /** One row and what readers and writers see of it, with something done to the store before every command. */
  async function play(disturb: (names: readonly string[]) => Promise<unknown>, withClear: boolean) {
    const seen = new Set<string>();
    const connection = (): MemcachedConnection => {
      const node = nodeFor(url);
      let last: Promise<unknown> = Promise.resolve();
      return {
        connect: () => node.connect(),
        disconnect: () => node.disconnect(),
        isConnected: () => node.isConnected(),
        command(command, options) {
          command.match(/[@\w]*test:[^ \r]+/g)?.forEach((name) => seen.add(name));
          const sent = last.then(() => disturb([...seen])).then(() => ({ reply: node.command(command, options) }));
          last = sent;
          return sent.then(({ reply }) => reply);
        },
      };
    };
    const stores = Array.from({ length: 3 }, () => new MemcachedStore([{ id: 'one', connection }]));
    const any = <T>(values: readonly T[]) => values[Math.floor(Math.random() * values.length)]!;
    const pause = () => sleep(Math.random() < 0.5 ? 0 : 2);
    let committed = 0;
    let evicted = 0;
    let hits = 0;
    const stale: string[] = [];
    const end = performance.now() + 3_000;
    // a busy machine gets more time to show something
    const isOver = () =>
      performance.now() >= end && ((hits > 20 && committed > 20) || performance.now() >= end + 15_000);

    const reader = async (reads: MemcachedStore) => {
      while (!isOver()) {
        const guard = Math.random() < 0.5 ? await guardOf(region, reads) : undefined;
        const atLeast = evicted;
        const found = (await reads.readMany([key], guard ? {} : { leaseMs: 50 }))[0]!;
        if (found.kind === 'hit') {
          hits += 1;
          if (Number(found.value) < atLeast) stale.push(`${found.value} after ${atLeast}`);
          if (Math.random() < 0.7) continue;
        }
        const value = String(committed);
        await pause();
        const permit =
          guard ?? (found.kind === 'leased' ? ({ kind: 'lease', token: found.token } as const) : undefined);
        if (permit) await reads.fillMany([{ key, value, ttlMs: LONG, permit }]);
      }
    };
    const writer = async (writes: MemcachedStore) => {
      while (!isOver()) {
        await sleep(Math.random() * 30);
        const version = (committed += 1);
        await pause();
        if (withClear && Math.random() < 0.3) await writes.clear(`${region}:`);
        else await any([() => writes.evictMany([{ key, region }]), () => writes.releaseMany([{ key, region }], 'w')])();
        evicted = Math.max(evicted, version);
      }
    };
    await Promise.all([...stores, ...stores].map(reader).concat(stores.slice(1).map(writer)));
    await Promise.all(stores.map((one) => one.close()));
    return { stale, hits, committed };
  }

  describe('a row that many read and write', () => {
    it.each([
      ['nothing is lost', async () => {}],
      ['any item may be lost between any two steps', (names: readonly string[]) => loseOne(names, 0.1)],
      ['commands come late', () => (Math.random() < 0.2 ? sleep(Math.random() * 8) : Promise.resolve())],
    ])('is never read older than the last evict, when %s', async (_, disturb) => {
      for (const withClear of [false, true]) {
        const { stale, hits, committed } = await play(disturb, withClear);
        expect(stale).toEqual([]);
        expect(hits).toBeGreaterThan(0);
        expect(committed).toBeGreaterThan(0);
      }
    });

    const loseOne = async (names: readonly string[], probability: number) => {
      if (names.length > 0 && Math.random() < probability) {
        await raw.command(`delete ${names[Math.floor(Math.random() * names.length)]}`);
      }
    };
  });
});

describe('MemcachedStore and its servers', () => {
  const region = 'app:tag';
  const keys = Array.from({ length: 100 }, (_, at) => `${region}:${at}`);
  const fill = async (store: MemcachedStore, of: readonly string[], value = 'row') => {
    const permit = { kind: 'guard', region, sequence: await store.guard(region) } as const;
    return store.fillMany(of.map((key) => ({ key, value, ttlMs: LONG, permit })));
  };
  const hits = async (store: MemcachedStore, of: readonly string[]) =>
    (await store.readMany(of)).filter(({ kind }) => kind === 'hit').length;

  it('spreads keys over several servers, whose order does not matter', async () => {
    await using second = await startServers({ memcached: true });
    const other = second.memcached!.url.slice('memcached://'.length);
    const store = new MemcachedStore(`${url},${other}`);
    const turned = new MemcachedStore(`memcached://${other},${url.slice('memcached://'.length)}`);
    await store.ping();
    await fill(store, keys);
    expect(await hits(turned, keys)).toBe(100);
    const there = (await namesOn(second.memcached!.url)).filter((name) => keys.includes(name)).length;
    expect(there).toBeGreaterThan(25);
    expect(there).toBeLessThan(75);

    const guard = { kind: 'guard', region, sequence: await store.guard(region) } as const;
    await turned.evictMany(keys.map((key) => ({ key, region })));
    const refused = await store.fillMany(keys.map((key) => ({ key, value: 'old', ttlMs: LONG, permit: guard })));
    expect(new Set(refused)).toEqual(new Set([false]));
    await fill(store, keys);
    await turned.clear(`${region}:`);
    expect(await hits(store, keys)).toBe(0);

    await second.stop();
    const outcomes = await Promise.allSettled(keys.map((key) => store.evictMany([{ key, region: key }])));
    const failed = outcomes.filter(({ status }) => status === 'rejected').length;
    expect(failed).toBeGreaterThan(25);
    expect(failed).toBeLessThan(100);
    await Promise.all([store.close(), turned.close()]);
  });

  it('finds a restarted server, and trusts nothing from before', async () => {
    await using first = await startServers({ memcached: true });
    const store = new MemcachedStore(first.memcached!.url);
    await fill(store, keys);
    const [found] = await store.readMany(['app:tag:lease'], { leaseMs: LONG });
    const permits = [
      { kind: 'lease', token: found?.kind === 'leased' ? found.token : '' },
      { kind: 'guard', region, sequence: await store.guard(region) },
    ] as const;
    await first.stop();
    await expect(store.readMany(keys)).rejects.toThrow(/ECONNREFUSED|closed/);
    await using again = await startServers({ memcached: { port: portOf(first.memcached!.url) } });
    expect(again.memcached!.url).toBe(first.memcached!.url);
    for (const permit of permits) {
      expect(await store.fillMany([{ key: 'app:tag:lease', value: 'old', ttlMs: LONG, permit }])).toEqual([false]);
    }
    expect(await hits(store, keys)).toBe(0);
    await fill(store, keys);
    expect(await hits(store, keys)).toBe(100);
    await store.close();
  });

  it('works with a server that has hardly any memory', async () => {
    await using small = await startServers({ memcached: { megabytes: 2 } });
    const stores = [new MemcachedStore(small.memcached!.url), new MemcachedStore(small.memcached!.url)];
    let filled = 0;
    let read = 0;
    for (let round = 0; round < 40; round += 1) {
      await Promise.all(
        stores.map(async (store, at) => {
          const own = keys.slice(0, 25).map((key) => `${key}:${at}:${round % 20}`);
          // All sizes: memcached keeps items of different sizes apart.
          const values = own.map((key, index) => key + 'x'.repeat((round * 977 + index * 3_301) % 30_000));
          const permit = { kind: 'guard', region, sequence: await store.guard(region) } as const;
          const written = await store.fillMany(
            own.map((key, index) => ({ key, value: values[index]!, ttlMs: LONG, permit })),
          );
          filled += written.filter(Boolean).length;
          for (const [index, found] of (await store.readMany(own)).entries()) {
            const isHit = found.kind === 'hit';
            read += Number(isHit);
            expect(found).toEqual(isHit ? { kind: 'hit', value: values[index] } : { kind: 'miss' });
          }
          await store.evictMany(own.map((key) => ({ key, region: `${region}:${at}` })));
          expect(await hits(store, own)).toBe(0);
        }),
      );
    }
    expect(filled).toBeGreaterThan(100);
    expect(read).toBeGreaterThan(50);
    await Promise.all(stores.map((store) => store.close()));
  });

  it('gives up on a server that hangs, closes all the same, and is back when the server is', async () => {
    await using hanging = await startServers({ memcached: true });
    const [store, closed] = [new MemcachedStore(hanging.memcached!.url), new MemcachedStore(hanging.memcached!.url)];
    await Promise.all([store.ping(), closed.ping()]);
    await stopProcess(hanging.memcached!.pid);
    const start = performance.now();
    const pinged = closed.ping().catch(() => 'rejected');
    await closed.close();
    expect(performance.now() - start).toBeLessThan(10_000);
    expect(await pinged).toBe('rejected');
    await expect(store.readMany(keys)).rejects.toThrow('did not answer');
    expect(performance.now() - start).toBeLessThan(30_000);
    process.kill(hanging.memcached!.pid, 'SIGCONT');
    await fill(store, keys);
    expect(await hits(store, keys)).toBe(100);
    await store.close();
  });

  it('fails soon when there is no server, without an error that nobody handles', async () => {
    const store = new MemcachedStore('memcached://127.0.0.1:1');
    const start = performance.now();
    await expect(Promise.all([store.ping(), store.readMany(keys)])).rejects.toThrow('ECONNREFUSED');
    expect(performance.now() - start).toBeLessThan(10_000);
    await store.close();
  });

  it('finishes what is under way before it closes, can be closed twice, and is closed then', async () => {
    const store = new MemcachedStore(url);
    const filled = fill(store, keys.slice(0, 10));
    await store.close();
    await filled.catch(() => {});
    await store.close();
    await expect(store.ping()).rejects.toThrow('closed');
    await new MemcachedStore(url).close();
  });

  it('opens one connection at its first use, and keeps no process alive after it was closed', async () => {
    const connections = async () => {
      const stats = (await raw.command('stats', { isStats: true })) as Record<string, string>;
      return Number(stats['curr_connections']);
    };
    const before = await connections();
    const store = new MemcachedStore(url);
    await Promise.all([store.ping(), fill(store, keys), store.readMany(keys, { leaseMs: LONG })]);
    expect(await connections()).toBe(before + 1);
    await store.close();

    const code = `
      import { openMemcachedStore } from ${JSON.stringify(new URL('../../src/memcached.ts', import.meta.url).href)};
      const store = openMemcachedStore(${JSON.stringify(url)});
      await store.readMany(['app:tag:1'], { leaseMs: 1000 });
      await store.close();`;
    const args = [...typescriptArgs, '--input-type=module', '--eval', code];
    const child = spawn(process.execPath, args, { stdio: 'inherit' });
    const killed = setTimeout(() => child.kill('SIGKILL'), 50_000);
    expect(await once(child, 'exit')).toEqual([0, null]);
    clearTimeout(killed);
  });
});

describe('openMemcachedStore', () => {
  it.each([
    'memcached://localhost',
    'memcached://a:1,b,c:11211/',
    'MEMCACHED://cache-1.example.com:11211',
    'memcached://[::1]:11211,127.0.0.1:11211',
  ])('opens %s, without connecting yet', async (text) => {
    const store = openMemcachedStore(text);
    expect(store).toBeInstanceOf(MemcachedStore);
    await store.close();
  });

  it.each([
    '',
    'localhost',
    'redis://localhost',
    'memcached://',
    'memcached://a,,b',
    'memcached://a,A',
    'memcached://a:11211,a',
    'memcached://a:port',
    'memcached://a:0',
    'memcached://a:99999',
    'memcached://a/b',
    'memcached://a?b=c',
    'memcached://user:secret@a',
  ])('refuses %p, and shows no password', (text) => {
    expect(() => openMemcachedStore(text)).toThrow(ConfigurationError);
    expect(() => openMemcachedStore(text)).toThrow(/^((?!secret).)*$/);
  });

  it('refuses no servers, and one that comes twice', () => {
    const server = { id: 'one', connection: () => nodeFor(url) };
    expect(() => new MemcachedStore([])).toThrow(ConfigurationError);
    expect(() => new MemcachedStore([server, server])).toThrow(ConfigurationError);
  });

  it('names the remedy when memcache is not installed', async () => {
    jest.resetModules();
    jest.unstable_mockModule('memcache', () => {
      throw Object.assign(new Error("Cannot find package 'memcache'"), { code: 'ERR_MODULE_NOT_FOUND' });
    });
    const fresh = await import('../../src/memcached.js');
    const store = fresh.openMemcachedStore('memcached://127.0.0.1:1');
    for (let round = 0; round < 2; round += 1) {
      await expect(store.ping()).rejects.toMatchObject({
        code: 'PLUS_CONFIGURATION',
        message: expect.stringContaining('npm install memcache'),
      });
    }
    await store.close();
  });
});
