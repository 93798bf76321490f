import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '../../../src/stores/open-store.js';
import { RedisClusterStore } from '../../../src/stores/redis/RedisClusterStore.js';
import { eventually, type RedisCluster, startRedisCluster } from '../../harness/redis-topologies.js';
import { Load } from '../redis-load/load.js';

const LONG = 60_000;
// Some keys share a slot, so that it moves key by key; the others are everywhere.
const keys = Array.from({ length: 12 }, (_, index) => (index < 6 ? `{hot}tag:${index}` : `tag:${index}`));

const stores: RedisClusterStore[] = [];

function open(cluster: RedisCluster): RedisClusterStore {
  const store = openStore(cluster.url) as RedisClusterStore;
  expect(store).toBeInstanceOf(RedisClusterStore);
  stores.push(store);
  return store;
}

afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
});

describe('a cluster of three nodes', () => {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(() => cluster?.[Symbol.asyncDispose]());

  it('may be resharded under load, without an error or a stale read', async () => {
    const load = new Load([open(cluster), open(cluster)], keys, 'tag');
    await load.progress();
    for (const key of ['{hot}', 'tag:seq', 'tag:7']) {
      const slot = await cluster.slotOf(key);
      const home = await cluster.primaryOf(key);
      const [second, third] = cluster.primaries.filter((node) => node !== home);
      for (const [from, to] of [
        [home, second],
        [second, third],
        [third, home],
      ]) {
        await cluster.moveSlot(slot, from!, to!, () => sleep(20));
        await load.progress(30);
      }
    }
    const report = await load.stop();
    expect(report.errors).toEqual([]);
    expect(report.stale).toEqual([]);
  });

  it('may lose everything under load, time and again, without an error or a stale read', async () => {
    const load = new Load([open(cluster), open(cluster)], keys, 'tag');
    for (let round = 0; round < 30; round += 1) {
      await cluster.primaries[round % 3]!.client.flushall();
      await sleep(30);
    }
    await load.progress();
    const report = await load.stop();
    expect(report.errors).toEqual([]);
    expect(report.stale).toEqual([]);
  });

  it('is cleared while a slot moves', async () => {
    const store = open(cluster);
    const all = Array.from({ length: 300 }, (_, index) => `{moving}:${index}`);
    const permit = { kind: 'guard', region: 'moving', sequence: await store.guard('moving') } as const;
    const fills = all.map((key) => ({ key, value: 'row', ttlMs: LONG, permit }));
    expect(await store.fillMany(fills)).toEqual(all.map(() => true));
    const home = await cluster.primaryOf('{moving}');
    const other = cluster.primaries.find((node) => node !== home)!;
    const moved = cluster.moveSlot(await cluster.slotOf('{moving}'), home, other);
    await Promise.all([moved, sleep(5).then(() => store.clear('{moving}'))]);
    expect(new Set((await store.readMany(all)).map(({ kind }) => kind))).toEqual(new Set(['miss']));
    await cluster.moveSlot(await cluster.slotOf('{moving}'), other, home);
  });

  it('sends one command per entry and step, all at once', async () => {
    const inner = open(cluster);
    await inner.ping();
    let most = 0;
    let now = 0;
    const { Cluster } = await import('ioredis');
    const client = new Cluster(cluster.primaries.map(({ port }) => ({ host: '127.0.0.1', port })));
    const counted = new RedisClusterStore({
      isCluster: true,
      call: async (command, args) => {
        most = Math.max(most, (now += 1));
        try {
          return await client.call(command, args);
        } finally {
          now -= 1;
        }
      },
      nodes: (role) => client.nodes(role),
      refreshSlotsCache: (callback) => client.refreshSlotsCache(callback),
    });
    await counted.readMany(Array.from({ length: 500 }, (_, index) => `many:${index}`));
    expect(most).toBe(500);
    client.disconnect();
  });

  it('says so when a node is out of memory', async () => {
    const store = open(cluster);
    const permit = { kind: 'guard', region: 'tag', sequence: await store.guard('tag') } as const;
    const home = await cluster.primaryOf('tag:1');
    await home.client.config('SET', 'maxmemory', '1');
    try {
      const fill = store.fillMany([{ key: 'tag:1', value: 'row', ttlMs: LONG, permit }]);
      await expect(fill).rejects.toThrow('OOM');
      await store.lockMany([{ key: 'tag:1', region: 'tag' }], 'writer', LONG);
      await store.releaseMany([{ key: 'tag:1', region: 'tag' }], 'writer');
    } finally {
      await home.client.config('SET', 'maxmemory', '0');
    }
  });

  it('rejects everything while slots have no node, and works again afterwards', async () => {
    const store = open(cluster);
    await store.ping();
    const node = cluster.primaries[0]!;
    node.signal('SIGKILL');
    const others = cluster.primaries.slice(1);
    for (const other of others) {
      await eventually('the others miss it', async () =>
        String(await other.client.call('CLUSTER', ['INFO'])).includes('cluster_state:fail'),
      );
    }
    const spread = Array.from({ length: 30 }, (_, index) => ({ key: `tag:${index}`, region: 'tag' }));
    for (const operation of [
      () => store.readMany(spread.map(({ key }) => key)),
      () => store.lockMany(spread, 'writer', LONG),
      () => store.releaseMany(spread, 'writer'),
      () => store.evictMany(spread),
      () => store.clear('tag'),
    ]) {
      await expect(operation()).rejects.toThrow(/CLUSTERDOWN|Connection|cluster/i);
    }
    await node.start();
    await cluster.settled();
    await eventually('the store works again', async () => {
      await store.evictMany(spread);
      return true;
    });
  });

  it('rejects soon when no node can be reached', async () => {
    const store = openStore('redis+cluster://127.0.0.1:1,127.0.0.1:2') as RedisClusterStore;
    const start = performance.now();
    await expect(store.readMany(['x'])).rejects.toThrow('cannot be reached');
    await expect(store.ping()).rejects.toThrow('cannot be reached');
    expect(performance.now() - start).toBeLessThan(30_000);
    await store.close();
  });
});

describe('a cluster with replicas', () => {
  it('survives the death of primaries under load without a stale read', async () => {
    await using cluster = await startRedisCluster({ replicas: true });
    const load = new Load([open(cluster), open(cluster)], keys, 'tag');
    await load.progress();
    for (const [index, primary] of cluster.primaries.entries()) {
      primary.signal('SIGKILL');
      await eventually('the replica is promoted', async () =>
        (await cluster.replicas[index]!.client.info('replication')).includes('role:master'),
      );
      await load.progress();
      await primary.start();
      await cluster.settled();
    }
    await load.progress();
    const report = await load.stop();
    expect(report.stale).toEqual([]);
    await Promise.all(stores.splice(0).map((store) => store.close()));
  });

  it('does not trust what a replica that lagged brings back', async () => {
    await using cluster = await startRedisCluster({ replicas: true });
    const store = open(cluster);
    // All in one slot, the sequence of the region too.
    const region = '{x}tag';
    const entry = { key: `${region}:1`, region };
    const guard = async () => ({ kind: 'guard', region, sequence: await store.guard(region) }) as const;
    const fill = async (key: string, permit: Parameters<typeof store.fillMany>[0][number]['permit']) =>
      (await store.fillMany([{ key, value: 'old', ttlMs: LONG, permit }]))[0];
    expect(await fill(entry.key, await guard())).toBe(true);
    const [leased] = await store.readMany([`${region}:2`], { leaseMs: LONG });
    const oldGuard = await guard();
    await store.lockMany([{ key: `${region}:3`, region }], 'first', LONG);

    const primary = await cluster.primaryOf(region);
    const replica = cluster.replicas[cluster.primaries.indexOf(primary)]!;
    await eventually('the replica has it all', async () => (await replica.client.dbsize()) === 4);
    // The replica stands still and loses its connection: it won't see what follows.
    replica.signal('SIGSTOP');
    await primary.client.call('CLIENT', ['KILL', 'TYPE', 'replica']);
    await store.evictMany([entry, { key: `${region}:2`, region }]);
    await store.lockMany([{ key: `${region}:3`, region }], 'second', LONG);
    await store.releaseMany([{ key: `${region}:3`, region }], 'second');
    primary.signal('SIGKILL');
    replica.signal('SIGCONT');
    await eventually('the replica is promoted', async () => {
      await replica.client.call('CLUSTER', ['FAILOVER', 'TAKEOVER']);
      return (await replica.client.info('replication')).includes('role:master');
    });

    expect(await replica.client.get(entry.key)).toMatch(/old$/);
    expect(await replica.client.get(`${region}:seq`)).toMatch(/./);
    await eventually('the store finds it', async () => (await store.readMany([entry.key]))[0]!.kind === 'miss');
    expect(leased).toMatchObject({ kind: 'leased' });
    const token = leased!.kind === 'leased' ? leased!.token : '';
    expect(await fill(`${region}:2`, { kind: 'lease', token })).toBe(false);
    expect(await fill(`${region}:4`, oldGuard)).toBe(false);
    // The first writer doesn't know of the second, whose lock is lost.
    await store.releaseMany([{ key: `${region}:3`, region, value: 'old', ttlMs: LONG }], 'first');
    expect((await store.readMany([`${region}:3`]))[0]).toEqual({ kind: 'miss' });
    expect(await fill(entry.key, await guard())).toBe(true);
    await Promise.all(stores.splice(0).map((each) => each.close()));
  });
});
