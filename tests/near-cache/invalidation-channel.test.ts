import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import { ConfigurationError } from '../../src/errors.js';
import { InvalidationChannel, type InvalidationChannelOptions } from '../../src/near-cache/InvalidationChannel.js';
import { NearCache, type NearCacheOptions } from '../../src/near-cache/NearCache.js';
import { MemoryStore } from '../../src/stores/MemoryStore.js';
import type { RedisClientLike } from '../../src/stores/redis/redis-client.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { type RunningServers, startServers } from '../harness/servers.js';
import { stopProcess } from '../harness/stop-process.js';
import { type Link, TcpProxy } from '../harness/tcp-proxy.js';
import { typescriptArgs } from '../harness/typescript-args.js';

const LONG = 60_000;
/** For tests of its bound. */
const MAX_STALENESS = 1_000;
/** For all others: a machine that stands still for a moment switches nothing off. */
const UNTROUBLED = 20_000;

let servers: RunningServers;
let url: string;
/** What other processes do. */
let client: Redis;
let other: RedisStore;
const opened: { close(): unknown }[] = [];

beforeAll(async () => {
  servers = await startServers({ redis: true });
  url = servers.redis!.url;
  client = new Redis(url);
  other = new RedisStore(client);
});
beforeEach(() => client.flushall());
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});
afterAll(async () => {
  client.disconnect();
  await servers.stop();
});

interface Opened {
  cache: NearCache;
  channel: InvalidationChannel;
  /** The process's own way to the server. */
  store: RedisStore;
  lost: Error[];
  onInvalidated: jest.Mock<(keys: number) => void>;
  onDroppedAll: jest.Mock<() => void>;
}

function open(
  options: Partial<NearCacheOptions> & Partial<InvalidationChannelOptions> & { own?: RedisStore } = {},
): Opened {
  const store = options.own ?? new RedisStore(url);
  const lost: Error[] = [];
  const channel = new InvalidationChannel({
    store,
    source: url,
    prefix: 'plus',
    onLost: (reason) => lost.push(reason),
    ...options,
  });
  const onInvalidated = jest.fn();
  const onDroppedAll = jest.fn();
  const cache = new NearCache({
    channel,
    onInvalidated,
    onDroppedAll,
    maxStalenessMs: UNTROUBLED,
    ...options,
    prefix: 'plus:tag:o:',
  });
  opened.push({ close: () => channel.close() }, { close: () => store.close() });
  return { cache, channel, store, lost, onInvalidated, onDroppedAll };
}

async function openUntilOn(options: Parameters<typeof open>[0] = {}): Promise<Opened> {
  const result = open(options);
  result.cache.begin();
  await until(() => result.cache.isOn);
  return result;
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000;
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error('It did not happen.');
    await sleep(1);
  }
}

/** Looks until an entry isn't served any more. Returns the last moment from which on it was, however slow the test is. */
async function lastServed({ cache }: Opened, name: unknown): Promise<number> {
  let served = -Infinity;
  for (;;) {
    const now = performance.now();
    if (cache.get(keyOf(name)) === undefined) return served;
    served = now;
    await sleep(1);
  }
}

const region = 'plus:tag';
const keyOf = (name: unknown) => `plus:tag:o:${String(name)}`;
const evict = (store: RedisStore, ...names: unknown[]) =>
  store.evictMany(names.map((name) => ({ key: keyOf(name), region })));

/** Puts a value into the store, as a reader that missed does. */
async function fill(store: RedisStore, name: unknown, value: string): Promise<void> {
  const key = keyOf(name);
  const [found] = await store.readMany([key], { leaseMs: LONG });
  const permit = { kind: 'lease', token: found?.kind === 'leased' ? found.token : '' } as const;
  expect(await store.fillMany([{ key, value, ttlMs: LONG, permit }])).toEqual([true]);
}

/** A read as the library makes it: near cache, then the store. */
async function read({ cache, store }: Opened, name: unknown): Promise<string | undefined> {
  const key = keyOf(name);
  const near = cache.get(key);
  if (near !== undefined) return near;
  const ticket = cache.begin();
  const [result] = await store.readMany([key]);
  if (result?.kind !== 'hit') return undefined;
  cache.put(key, result.value, ticket);
  return result.value;
}

/** Fills entries of the store, and reads them until they are near. */
async function warm(near: Opened, ...names: unknown[]): Promise<void> {
  for (const name of names) await fill(other, name, `old ${String(name)}`);
  // the fills are changes too, and what is told of them later would remove what was read by then
  await caughtUp(near);
  for (const name of names) while (near.cache.get(keyOf(name)) === undefined) await read(near, name);
}

/** Waits for all invalidations of changes until now. */
async function caughtUp({ cache }: Opened, server = client): Promise<void> {
  while (!cache.put(keyOf('marker'), '', cache.begin())) await sleep(1);
  await server.set(keyOf('marker'), '');
  await until(() => cache.get(keyOf('marker')) === undefined);
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const connections = async () =>
  ((await client.client('LIST')) as string)
    .split('\n')
    .filter((line) => line.includes('name=mikro-orm-plus-near-cache'));

async function kill(kind: 'subscriber' | 'tracker'): Promise<void> {
  const isSubscriber = (line: string) => line.includes(' sub=1 ');
  const line = (await connections()).find((text) => isSubscriber(text) === (kind === 'subscriber'))!;
  await client.client('KILL', 'ID', /^id=(\d+)/.exec(line)![1]!);
}

describe('a change by another process', () => {
  const changes: [string, (name: string) => Promise<unknown>][] = [
    ['an evict', (name) => evict(other, name)],
    ['a soft lock', (name) => other.lockMany([{ key: keyOf(name), region }], 'writer', LONG)],
    [
      'a write-through',
      async (name) => {
        await other.lockMany([{ key: keyOf(name), region }], 'writer', LONG);
        await other.releaseMany([{ key: keyOf(name), region, value: 'new', ttlMs: LONG }], 'writer');
      },
    ],
    ['the removal of the region', () => other.clear('plus:tag:')],
    ['DEL', (name) => client.del(keyOf(name))],
    [
      'a write by this very process',
      async (name) => (await openUntilOn()).store.evictMany([{ key: keyOf(name), region }]),
    ],
  ];

  it.each(changes)('removes the entry: %s', async (_name, change) => {
    const near = await openUntilOn();
    await warm(near, 'x');
    expect(near.cache.get(keyOf('x'))).toBe('old x');
    await change('x');
    await until(() => near.cache.get(keyOf('x')) === undefined);
    expect(near.cache.isOn).toBe(true);
    expect(await read(near, 'x')).not.toBe('old x');
    expect(near.lost).toEqual([]);
  });

  it('does so within milliseconds', async () => {
    const near = await openUntilOn();
    const delays: number[] = [];
    for (let round = 0; round < 200; round += 1) {
      await warm(near, round);
      const evicted = evict(other, round);
      const start = performance.now();
      while (near.cache.get(keyOf(round)) !== undefined) await new Promise((resolve) => setImmediate(resolve));
      delays.push(performance.now() - start);
      await evicted;
    }
    report('evict sent -> not served', delays);
    expect(median(delays)).toBeLessThan(50);
    expect(near.onDroppedAll).not.toHaveBeenCalled();
  });

  it('removes the entry: an expiry', async () => {
    const near = await openUntilOn();
    await warm(near, 'x');
    await client.pexpire(keyOf('x'), 3_000);
    await until(() => near.cache.get(keyOf('x')) === undefined);
    expect(await read(near, 'x')).toBe('old x');
    expect(near.cache.get(keyOf('x'))).toBe('old x');
    await until(() => near.cache.get(keyOf('x')) === undefined);
    expect(near.cache.isOn).toBe(true);
  });

  it('reaches only those caches whose prefix the key has', async () => {
    const near = await openUntilOn();
    const invalidated: number[] = [];
    const users = new NearCache({
      channel: near.channel,
      prefix: 'plus:user:o:',
      onInvalidated: (keys) => invalidated.push(keys),
    });
    // a prefix that comes later is followed as well, without a break for the others
    await until(() => users.isOn);
    expect(near.cache.isOn).toBe(true);
    await warm(near, 'x');
    users.put('plus:user:o:1', 'user', users.begin());
    near.onInvalidated.mockClear();
    await client.mset('plus:user:o:1', '', 'plus:user:o:2', '', 'plus:other:o:1', '', 'plus:tag:l:1', '', 'other', '');
    await until(() => users.get('plus:user:o:1') === undefined);
    await sleep(50);
    expect(invalidated).toEqual([2]);
    expect(near.onInvalidated).not.toHaveBeenCalled();
    expect(near.cache.get(keyOf('x'))).toBe('old x');
    expect(near.lost).toEqual([]);
  });

  it('reaches keys with commas and other letters', async () => {
    const near = await openUntilOn();
    await warm(near, 'a,b', 'ä€😀');
    await evict(other, 'a,b', 'ä€😀');
    await until(() => near.cache.size === 0);
    expect(near.onDroppedAll).not.toHaveBeenCalled();
  });

  it('removes everything, if it is FLUSHALL', async () => {
    const near = await openUntilOn();
    await warm(near, 'x', 'y');
    const ticket = near.cache.begin();
    await client.flushall();
    await until(() => near.cache.size === 0);
    expect(near.cache.put(keyOf('x'), 'old x', ticket)).toBe(false);
    expect(near.cache.isOn).toBe(true);
    expect(near.onDroppedAll).toHaveBeenCalledTimes(1);
  });

  it('is not seen in a mere read', async () => {
    const near = await openUntilOn();
    await warm(near, 'x');
    await caughtUp(near);
    near.onInvalidated.mockClear();
    for (let round = 0; round < 20; round += 1) await other.readMany([keyOf('x')], { leaseMs: LONG });
    await sleep(50);
    expect(near.onInvalidated).not.toHaveBeenCalled();
  });
});

describe('a read under way', () => {
  it('puts nothing if the invalidation overtakes its answer', async () => {
    await using proxy = await TcpProxy.start(url);
    // a client that waits for its answers, however late they are
    const patient = new Redis(proxy.through(url));
    opened.push({ close: () => patient.disconnect() });
    const store = new RedisStore(patient);
    const near = await openUntilOn({ own: store });
    await fill(other, 'x', 'old');
    await caughtUp(near);
    // the heartbeats of this time are held up as well, which is no matter within maxStaleness
    let isHeld = false;
    let isAnswered = false;
    proxy.onServerData = (chunk) => {
      isAnswered ||= chunk.includes('old');
    };
    proxy.onClientData = (chunk, link) => {
      if (isHeld || !chunk.includes(keyOf('x'))) return;
      isHeld = true;
      link.delayReplies(1_000);
    };
    const ticket = near.cache.begin();
    const reading = store.readMany([keyOf('x')]);
    await until(() => isAnswered);
    near.onInvalidated.mockClear();
    await evict(other, 'x');
    await until(() => near.onInvalidated.mock.calls.length > 0);
    expect(await reading).toEqual([{ kind: 'hit', value: 'old' }]);
    expect(near.cache.isOn).toBe(true);
    expect(near.cache.put(keyOf('x'), 'old', ticket)).toBe(false);
    expect(near.cache.put(keyOf('y'), 'another key', ticket)).toBe(true);
  });

  it('may put what an invalidation that is still on its way removes', async () => {
    await using proxy = await TcpProxy.start(url);
    let subscriber: Link | undefined;
    proxy.onClientData = (chunk, link) => {
      if (chunk.includes('__redis__:invalidate')) subscriber = link;
    };
    const near = await openUntilOn({ source: proxy.through(url) });
    await fill(other, 'x', 'old');
    await caughtUp(near);
    const ticket = near.cache.begin();
    expect(await near.store.readMany([keyOf('x')])).toEqual([{ kind: 'hit', value: 'old' }]);
    subscriber!.delayReplies(3_000);
    await evict(other, 'x');
    expect(near.cache.put(keyOf('x'), 'old', ticket)).toBe(true);
    expect(near.cache.get(keyOf('x'))).toBe('old');
    await until(() => near.cache.get(keyOf('x')) === undefined);
    expect(near.cache.isOn).toBe(true);
    expect(near.cache.size).toBe(0);
  });
});

describe('a lost connection', () => {
  it.each(['subscriber', 'tracker'] as const)('switches it off until it is back: %s killed', async (kind) => {
    const near = await openUntilOn();
    await warm(near, 'x', 'y');
    const ticket = near.cache.begin();
    await kill(kind);
    await until(() => near.cache.size === 0);
    expect(near.cache.put(keyOf('x'), 'old x', ticket)).toBe(false);
    await evict(other, 'x');
    await fill(other, 'x', 'new x');
    await until(() => near.cache.isOn);
    expect(near.cache.get(keyOf('x'))).toBeUndefined();
    expect(near.cache.put(keyOf('x'), 'old x', ticket)).toBe(false);
    expect(await read(near, 'x')).toBe('new x');
    expect(near.cache.get(keyOf('x'))).toBe('new x');
    expect(near.onDroppedAll).toHaveBeenCalledTimes(1);
    expect(near.lost).toHaveLength(1);
    expect(await connections()).toHaveLength(2);
  });

  it("switches it off too if it is the store's own, and comes back with it", async () => {
    await using proxy = await TcpProxy.start(url);
    const near = await openUntilOn({ own: new RedisStore(proxy.through(url)) });
    await warm(near, 'x');
    proxy.set({ kind: 'cut' });
    await until(() => near.cache.size === 0);
    proxy.open();
    await until(() => near.cache.isOn);
    expect(near.lost).toHaveLength(1);
  });

  it.each(['held', 'stranded'] as const)('is noticed within maxStaleness though it looks open: %s', async (kind) => {
    const tookMs: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      await using proxy = await TcpProxy.start(url);
      const near = await openUntilOn({ source: proxy.through(url), maxStalenessMs: MAX_STALENESS });
      await warm(near, `x${round}`);
      const key = keyOf(`x${round}`);
      const start = performance.now();
      proxy.set({ kind });
      await evict(other, `x${round}`);
      tookMs.push((await lastServed(near, `x${round}`)) - start);
      // it looks open, so entries remain for some time, but are not served
      while (near.cache.size > 0) {
        expect(near.cache.get(key)).toBeUndefined();
        await sleep(5);
      }
      proxy.open();
      await until(() => near.cache.isOn);
      expect(near.cache.get(key)).toBeUndefined();
      near.channel.close();
    }
    report(`${kind} -> off`, tookMs);
    expect(Math.max(...tookMs)).toBeLessThan(MAX_STALENESS);
  });

  it('is noticed within a maxStaleness of its own choice', async () => {
    await using proxy = await TcpProxy.start(url);
    const near = await openUntilOn({ source: proxy.through(url), maxStalenessMs: 200 });
    await warm(near, 'x');
    const start = performance.now();
    proxy.set({ kind: 'held' });
    expect((await lastServed(near, 'x')) - start).toBeLessThan(200);
  });

  it('survives a network that is slow, but not too slow, and knows that it learns things late', async () => {
    await using proxy = await TcpProxy.start(url);
    // a proof each second, and one is good for 5.4 s: enough for a machine that stands still for a while
    const near = await openUntilOn({ source: proxy.through(url), maxStalenessMs: 6_000 });
    await warm(near, 'x');
    proxy.set({ kind: 'slow', delayMs: 250 });
    await sleep(300);
    const end = performance.now() + 6_000;
    while (performance.now() < end) {
      expect(near.cache.isOn).toBe(true);
      // a proof from less than the delay ago would vouch for changes that are still on their way
      expect(near.channel.isProven('plus:tag:o:', 245)).toBe(false);
      await sleep(25);
    }
    expect(near.cache.get(keyOf('x'))).toBe('old x');
  });

  it('is quiet, and has its reason told once, if there is no server; and ends when there is one', async () => {
    await using proxy = await TcpProxy.start(url);
    proxy.set({ kind: 'cut' });
    const near = open({ source: proxy.through(url) });
    near.cache.begin();
    await until(() => near.lost.length > 0);
    await sleep(400);
    expect(near.cache.isOn).toBe(false);
    expect(await read(near, 'x')).toBeUndefined();
    expect(near.lost).toHaveLength(1);
    proxy.open();
    await until(() => near.cache.isOn);
  });

  it('switches it off while the server hangs, and on again after', async () => {
    const near = await openUntilOn({ maxStalenessMs: MAX_STALENESS });
    await warm(near, 'x');
    const start = performance.now();
    await stopProcess(servers.redis!.pid);
    try {
      expect((await lastServed(near, 'x')) - start).toBeLessThan(MAX_STALENESS);
      await sleep(MAX_STALENESS);
    } finally {
      process.kill(servers.redis!.pid, 'SIGCONT');
    }
    await until(() => near.cache.isOn);
    expect(near.cache.get(keyOf('x'))).toBeUndefined();
  });
});

describe('a process that was stopped', () => {
  /** Sends a command while this process does nothing else. */
  function meanwhile(command: string): void {
    const { port } = new URL(url);
    const script = `require('net').connect(${port},'127.0.0.1').end('${command}\\r\\n').resume()`;
    expect(spawnSync(process.execPath, ['-e', script]).status).toBe(0);
  }

  it('serves nothing until it has caught up, and then only what is still right', async () => {
    const maxStalenessMs = 3 * MAX_STALENESS;
    const near = await openUntilOn({ maxStalenessMs });
    await warm(near, 'x', 'y');
    meanwhile(`DEL ${keyOf('x')}`);
    block(maxStalenessMs);
    expect([near.cache.get(keyOf('x')), near.cache.get(keyOf('y'))]).toEqual([undefined, undefined]);
    expect(near.cache.isOn).toBe(false);
    await until(() => near.cache.isOn);
    expect(near.cache.get(keyOf('x'))).toBeUndefined();
    // the connection is the same, so nothing was missed
    expect(near.cache.get(keyOf('y'))).toBe('old y');
    expect(near.lost).toEqual([]);
  });

  it('serves nothing if its machine was suspended, which stops the steady clock', async () => {
    const near = await openUntilOn();
    await warm(near, 'x');
    const wall = Date.now();
    const spy = jest.spyOn(Date, 'now').mockReturnValue(wall + 3_600_000);
    expect(near.cache.get(keyOf('x'))).toBeUndefined();
    spy.mockReturnValue(wall - 3_600_000);
    expect(near.cache.get(keyOf('x'))).toBe('old x');
    spy.mockRestore();
  });
});

describe('its connections', () => {
  it('are opened by the first read, and gone when it is closed, in the midst of opening too', async () => {
    const { cache, channel } = open();
    await sleep(50);
    expect(await connections()).toHaveLength(0);
    cache.begin();
    await until(() => cache.isOn);
    expect(await connections()).toHaveLength(2);
    channel.close();
    channel.close();
    expect(cache.isOn).toBe(false);
    expect(cache.get(keyOf('x'))).toBeUndefined();
    for (let steps = 0; steps < 12; steps += 1) {
      const hasty = open();
      hasty.cache.begin();
      for (let step = 0; step < steps; step += 1) await new Promise((resolve) => setImmediate(resolve));
      hasty.channel.close();
      hasty.cache.begin();
      expect(hasty.lost).toEqual([]);
    }
    await until(async () => (await connections()).length === 0);
  });

  it('let the process exit by itself, also those that lead nowhere any more', async () => {
    const fixture = fileURLToPath(new URL('./exit.fixture.ts', import.meta.url));
    const child = spawn(process.execPath, [...typescriptArgs, fixture, url], { stdio: 'pipe' });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += String(chunk)));
    const closed = once(child, 'close');
    expect(await closed).toEqual([0, null]);
    expect(output.trim()).toBe('nothing is left open');
  });

  it('can be made from an ioredis client, whatever its options, which is left alone', async () => {
    const source = new Redis(url, { commandTimeout: 2_000, enableAutoPipelining: true, db: 3, readOnly: true });
    opened.push({ close: () => source.disconnect() });
    const own = new RedisStore(source);
    const near = await openUntilOn({ source, own });
    await fill(own, 'x', 'old');
    while (near.cache.get(keyOf('x')) === undefined) await read(near, 'x');
    await sleep(2_200);
    expect(near.cache.get(keyOf('x'))).toBe('old');
    await evict(own, 'x');
    await until(() => near.cache.get(keyOf('x')) === undefined);
    expect(near.lost).toEqual([]);
    near.channel.close();
    expect(JSON.stringify(await source.call('CLIENT', 'TRACKINGINFO'))).toContain('["off"]');
    expect(await source.ping()).toBe('PONG');
  });

  it('need the rights that are documented, and no others', async () => {
    const rights = '+@connection -client +client|id +client|tracking +subscribe';
    await client.call('ACL', [
      'SETUSER',
      'near',
      'on',
      '>secret',
      'resetchannels',
      '&__redis__:invalidate',
      ...rights.split(' '),
    ]);
    const source = url.replace('redis://', 'redis://near:secret@');
    const near = await openUntilOn({ source });
    await warm(near, 'x');
    await evict(other, 'x');
    await until(() => near.cache.get(keyOf('x')) === undefined);
    expect(near.lost).toEqual([]);
    // taken away, they are missed
    await client.call('ACL', ['SETUSER', 'near', '-client|tracking']);
    await client.client('KILL', 'USER', 'near');
    await until(() => near.lost.length > 0);
    await sleep(200);
    expect(near.cache.isOn).toBe(false);
  });

  it('lead to the server of the store, or nothing is kept', async () => {
    await using elsewhere = await startServers({ redis: true });
    const near = open({ source: elsewhere.redis!.url });
    near.cache.begin();
    await sleep(600);
    expect(near.cache.isOn).toBe(false);
  });

  it('leave nothing but what expires at once', async () => {
    await openUntilOn();
    await sleep(300);
    const keys = await client.keys('plus:near-cache:*');
    expect(keys.length).toBeLessThan(4);
    for (const key of keys) expect(await client.pttl(key)).toBeLessThanOrEqual(100);
  });
});

describe('a configuration that can not work', () => {
  const make = (source: unknown) =>
    new InvalidationChannel({ store: other, source: source as RedisClientLike, prefix: 'plus' });

  it('is refused: no single Redis server', () => {
    const cluster = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true });
    expect(() => make(cluster)).toThrow('Redis Cluster');
    cluster.disconnect();
    for (const source of [
      'memory://',
      'redis+cluster://h:1',
      'redis+sentinel://h:1/x',
      new MemoryStore(),
      other,
      { call() {} },
    ]) {
      expect(() => make(source)).toThrow(ConfigurationError);
    }
    expect(() => make('memcached://user:secret@h')).toThrow(/^(?!.*secret)/);
  });

  it('is refused: prefixes that overlap', () => {
    const { channel } = open();
    for (const prefix of ['plus:tag:o:1', 'plus:', '']) {
      expect(() => new NearCache({ channel, prefix })).toThrow(ConfigurationError);
    }
    new NearCache({ channel, prefix: 'plus:tag:o:' }).close();
  });
});

/** For the one who wants to know: NEAR_CACHE_REPORT=1. */
function report(what: string, values: number[]): void {
  if (!process.env['NEAR_CACHE_REPORT']) return;
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(1);
  process.stderr.write(`${what}: median ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms (${sorted.length})\n`);
}
