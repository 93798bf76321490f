import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { FillEntry } from '../../src/stores/CacheStore.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { eventually, type RedisNode, RedisServers } from '../harness/redis-topologies.js';
import { Load } from './redis-load/load.js';

const LONG = 60_000;
const region = 'tag';
const entry = { key: 'tag:value', region };
const miss = { kind: 'miss' };

let servers: RedisServers;
let node: RedisNode;
let store: RedisStore;

beforeEach(async () => {
  servers = await RedisServers.open();
  node = await servers.add('primary', { 'repl-diskless-sync-delay': '0' });
  store = new RedisStore(`redis://${node.address}`);
});
afterEach(async () => {
  await store.close();
  await servers[Symbol.asyncDispose]();
});

const guard = async (): Promise<FillEntry['permit']> => ({
  kind: 'guard',
  region,
  sequence: await store.guard(region),
});
const fill = async (permit: FillEntry['permit'], key = entry.key) =>
  (await store.fillMany([{ key, value: 'old', ttlMs: LONG, permit }]))[0];
const read = async (key = entry.key) => (await store.readMany([key]))[0];

/** Puts one of each into the store, and returns what shows that none of it counts any more. */
async function fillStore(): Promise<() => Promise<void>> {
  expect(await fill(await guard())).toBe(true);
  const [leased] = await store.readMany(['tag:leased'], { leaseMs: LONG });
  const token = leased!.kind === 'leased' ? leased!.token : '';
  const oldGuard = await guard();
  await store.lockMany([{ key: 'tag:locked', region }], 'writer', LONG);
  expect(await read()).toEqual({ kind: 'hit', value: 'old' });
  return async () => {
    expect(await read()).toEqual(miss);
    expect(await fill({ kind: 'lease', token }, 'tag:leased')).toBe(false);
    expect(await fill(oldGuard, 'tag:other')).toBe(false);
    // A lock counts as long as it lasts, but no longer writes through.
    expect((await store.readMany(['tag:locked'], { leaseMs: LONG }))[0]).toEqual(miss);
    await store.releaseMany([{ key: 'tag:locked', region, value: 'old', ttlMs: LONG }], 'writer');
    expect(await read('tag:locked')).toEqual(miss);
    expect(await fill(await guard())).toBe(true);
    expect(await read()).toEqual({ kind: 'hit', value: 'old' });
  };
}

describe('what comes back from the past is not trusted', () => {
  it('after a restart from an old snapshot', async () => {
    const nothingCounts = await fillStore();
    await node.client.save();
    await store.evictMany([entry, { key: 'tag:leased', region }]);
    node.signal('SIGKILL');
    await node.start();
    expect(await node.client.get(entry.key)).toMatch(/old$/);
    await eventually('the store is connected', async () => (await store.ping(), true));
    await nothingCounts();
  });

  it('after a failover that the client does not notice, as its connection stays open', async () => {
    const nothingCounts = await fillStore();
    const old = store;
    const replica = await servers.add('replica', { replicaof: `127.0.0.1 ${node.port}` });
    await eventually('it is in sync', async () => (await replica.client.exists(entry.key)) === 1);
    const client = new Redis(replica.port, '127.0.0.1');
    const id = await client.client('ID');
    store = new RedisStore(client);
    await expect(read()).rejects.toThrow('READONLY');
    await replica.client.call('REPLICAOF', ['NO', 'ONE']);
    expect(await client.client('ID')).toBe(id);
    expect(await replica.client.get(entry.key)).toMatch(/old$/);
    await nothingCounts();
    client.disconnect();
    await old.close();
  });

  it('after a primary was demoted and promoted again', async () => {
    const nothingCounts = await fillStore();
    await node.client.call('REPLICAOF', ['127.0.0.1', '1']);
    await node.client.call('REPLICAOF', ['NO', 'ONE']);
    expect(await node.client.get(entry.key)).toMatch(/old$/);
    await nothingCounts();
  });
});

it('restarts empty under load, time and again, without a stale read', async () => {
  const keys = Array.from({ length: 8 }, (_, index) => `tag:${index}`);
  const second = new RedisStore(`redis://${node.address}`);
  const load = new Load([store, second], keys, region);
  for (let round = 0; round < 5; round += 1) {
    await load.progress();
    node.signal('SIGKILL');
    await node.start();
  }
  await load.progress();
  expect((await load.stop()).stale).toEqual([]);
  await second.close();
});

describe('errors of the server are rejections', () => {
  const others: [string, () => Promise<unknown>][] = [
    ['guard', () => store.guard(region)],
    ['lock', () => store.lockMany([entry], 'writer', LONG)],
    ['release', () => store.releaseMany([entry], 'writer')],
    ['evict', () => store.evictMany([entry])],
  ];
  const everything: typeof others = [
    ['read', () => read()],
    ['read with a lease', () => store.readMany([entry.key], { leaseMs: LONG })],
    ...others,
  ];

  it('of a replica: -READONLY, also for a read that finds a value, and for a clear that finds nothing', async () => {
    expect(await fill(await guard())).toBe(true);
    await node.client.call('REPLICAOF', ['127.0.0.1', '1']);
    for (const [, operation] of everything) {
      await expect(operation()).rejects.toThrow('READONLY');
      await sleep(100);
    }
    await expect(store.clear('no such prefix')).rejects.toThrow('READONLY');
  });

  it('of a primary that lost its replicas: -NOREPLICAS, also for a read that finds a value', async () => {
    expect(await fill(await guard())).toBe(true);
    await node.client.config('SET', 'min-replicas-to-write', '1');
    for (const [, operation] of everything) {
      await expect(operation()).rejects.toThrow('NOREPLICAS');
    }
  });

  it('of a server that is out of memory: -OOM, but what is there can be read and removed', async () => {
    expect(await fill(await guard())).toBe(true);
    const permit = await guard();
    await node.client.config('SET', 'maxmemory', '1');
    await expect(fill(permit, 'tag:new')).rejects.toThrow('OOM');
    await expect(store.readMany(['tag:new'], { leaseMs: LONG })).rejects.toThrow('OOM');
    await expect(store.guard(region)).rejects.toThrow('OOM');
    expect(await read()).toEqual({ kind: 'hit', value: 'old' });
    await store.lockMany([entry], 'writer', LONG);
    await store.releaseMany([{ ...entry, value: 'new', ttlMs: LONG }], 'writer');
    expect(await read()).toEqual({ kind: 'hit', value: 'new' });
    await store.evictMany([entry]);
    expect(await read()).toEqual(miss);
  });

  it('of a server that still loads its data: -LOADING', async () => {
    expect(await fill(await guard())).toBe(true);
    await node.client.call('DEBUG', ['POPULATE', '10000', 'filler']);
    await node.client.save();
    await node.client.config('SET', 'loading-process-events-interval-bytes', '1024');
    node.signal('SIGKILL');
    const slow = await servers.add('slow', {
      dir: node.folder,
      'key-load-delay': '2000',
      'loading-process-events-interval-bytes': '1024',
    });
    const client = new Redis(slow.port, '127.0.0.1', { enableReadyCheck: false });
    await store.close();
    store = new RedisStore(client);
    expect(await client.info('persistence')).toContain('loading:1');
    for (const [, operation] of everything) {
      await expect(operation()).rejects.toThrow('LOADING');
    }
    await expect(store.ping()).rejects.toThrow('LOADING');
    client.disconnect();
  });
});
