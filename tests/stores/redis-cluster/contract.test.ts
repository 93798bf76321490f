import { Cluster } from 'ioredis';
import { RedisClusterStore } from '../../../src/stores/redis/RedisClusterStore.js';
import { describeStoreContract } from '../../contract/store-contract.js';
import { type RedisCluster, startRedisCluster } from '../../harness/redis-topologies.js';

let cluster: RedisCluster;
let client: Cluster;
let prefixes = 0;

beforeAll(async () => {
  cluster = await startRedisCluster();
  client = new Cluster(cluster.primaries.map(({ port }) => ({ host: '127.0.0.1', port })));
});
afterAll(async () => {
  client?.disconnect();
  await cluster?.[Symbol.asyncDispose]();
});

describeStoreContract('RedisClusterStore', async () => {
  prefixes += 1;
  const loseEverything = async () => {
    await Promise.all(cluster.primaries.map((node) => node.client.flushall()));
  };
  return { store: new RedisClusterStore(client), prefix: `${prefixes}:`, loseEverything, dispose: loseEverything };
});

it('spreads entries over all nodes, and every key has an expiry', async () => {
  const store = new RedisClusterStore(client);
  const keys = Array.from({ length: 300 }, (_, index) => `tag:${index}`);
  const permit = { kind: 'guard', region: 'tag', sequence: await store.guard('tag') } as const;
  await store.fillMany(keys.slice(0, 200).map((key) => ({ key, value: 'row', ttlMs: 60_000, permit })));
  await store.readMany(keys, { leaseMs: 60_000 });
  await store.lockMany([{ key: 'tag:1', region: 'tag' }], 'writer', 60_000);
  for (const { client: node } of cluster.primaries) {
    const found = await node.keys('*');
    expect(found.length).toBeGreaterThan(50);
    expect(await Promise.all(found.map((key) => node.pttl(key)))).not.toContain(-1);
  }
  await store.clear('tag:');
  const left = await Promise.all(cluster.primaries.map(({ client: node }) => node.keys('*')));
  expect(left.flat()).toEqual(['tag:1']);
});
