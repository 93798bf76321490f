import { readFile } from 'node:fs/promises';
import { Cluster, Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidationChannel } from '../../src/near-cache/InvalidationChannel.js';
import { NearCache } from '../../src/near-cache/NearCache.js';
import { openStore } from '../../src/stores/open-store.js';
import { RedisClusterStore } from '../../src/stores/redis/RedisClusterStore.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import type { CacheStore } from '../../src/stores/CacheStore.js';
import { describeStoreContract } from '../contract/store-contract.js';
import { type RedisCluster, type RedisNode, RedisServers, startRedisCluster } from '../harness/redis-topologies.js';

const LONG = 60_000;
/** The rights that sequences of commands need are those of their commands. */
const FEW = { share: 0.1 };

/** The rule that docs/operations.md gives, as the arguments of `ACL`. */
async function documentedRule(kind: string): Promise<string[]> {
  const text = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const [, rule] = new RegExp(`<!-- acl: ${kind} -->\\s+\`\`\`text\\s+ACL (.*)`).exec(text)!;
  return rule!.trim().split(' ');
}

const credentials = { username: 'cache', password: 'password' };

/** Every operation, through all of the scripts' branches that send a command of their own. */
async function everything(store: CacheStore): Promise<void> {
  const region = 'shop:tag';
  const entry = { key: `${region}:1`, region };
  const permit = { kind: 'guard', region, sequence: await store.guard(region) } as const;
  await store.ping();
  expect(await store.fillMany([{ key: entry.key, value: 'row', ttlMs: LONG, permit }])).toEqual([true]);
  expect(await store.readMany([entry.key], { leaseMs: LONG })).toEqual([{ kind: 'hit', value: 'row' }]);
  await store.lockMany([entry], 'writer', LONG);
  await store.releaseMany([entry], 'writer');
  await store.evictMany([entry]);
  await store.clear('shop:');
}

let prefixes = 0;
const nextPrefix = () => `shop:${(prefixes += 1)}:`;

describe('one server, with the documented rights', () => {
  let servers: RedisServers;
  let node: RedisNode;
  let client: Redis;

  beforeAll(async () => {
    servers = await RedisServers.open();
    node = await servers.add('redis');
    await node.client.call('ACL', await documentedRule('single'));
    client = new Redis(node.port, '127.0.0.1', credentials);
  });
  afterAll(async () => {
    client?.disconnect();
    await servers?.[Symbol.asyncDispose]();
  });

  describeStoreContract(
    'RedisStore',
    async () => {
      const flush = async () => void (await node.client.flushall());
      return { store: new RedisStore(client), prefix: nextPrefix(), loseEverything: flush, dispose: flush };
    },
    FEW,
  );

  it('a store opened by URL works', async () => {
    const store = openStore(`redis://cache:password@${node.address}`);
    await expect(everything(store)).resolves.toBeUndefined();
    await store.close();
  });

  it('other keys are out of reach', async () => {
    await expect(new RedisStore(client).readMany(['other'])).rejects.toThrow('NOPERM');
  });

  it('none of the rights can be spared', async () => {
    const rule = await documentedRule('single');
    for (const right of rule.filter((each) => each.startsWith('+'))) {
      await node.client.call(
        'ACL',
        rule.filter((each) => each !== right),
      );
      await node.client.flushall();
      await node.client.script('FLUSH');
      const fresh = new Redis(node.port, '127.0.0.1', { ...credentials, enableReadyCheck: false });
      const outcome = await everything(new RedisStore(fresh)).then(
        () => `works without ${right}`,
        (error: unknown) => String(error),
      );
      expect(outcome).toMatch(/NOPERM|can't run this command/);
      fresh.disconnect();
    }
    await node.client.call('ACL', rule);
  });
});

describe('a near cache, with the documented rights', () => {
  let servers: RedisServers;
  let node: RedisNode;
  let rule: string[];

  beforeAll(async () => {
    servers = await RedisServers.open();
    node = await servers.add('redis');
    rule = await documentedRule('near-cache');
  });
  afterAll(() => servers?.[Symbol.asyncDispose]());

  /** Opens store and near cache by one URL, sees a change, and says so; or says why it couldn't. */
  async function follow(): Promise<string> {
    const url = `redis://cache:password@${node.address}`;
    const store = openStore(url);
    const lost = Promise.withResolvers<string>();
    const over = new AbortController();
    const onLost = (reason: Error) => lost.resolve(String(reason));
    const channel = new InvalidationChannel({ store, source: url, prefix: 'shop', onLost });
    const cache = new NearCache({ channel, prefix: 'shop:tag:', maxStalenessMs: 20_000 });
    const works = async (): Promise<string> => {
      while (!over.signal.aborted && !cache.put('shop:tag:1', 'row', cache.begin())) await sleep(5);
      await node.client.set('shop:tag:1', 'changed by another');
      while (cache.get('shop:tag:1') !== undefined) await sleep(5);
      return cache.isOn ? 'works' : 'is off';
    };
    try {
      await everything(store);
      return await Promise.race([works(), lost.promise]);
    } finally {
      over.abort();
      channel.close();
      await store.close();
    }
  }

  it('follows changes', async () => {
    await node.client.call('ACL', rule);
    await expect(follow()).resolves.toBe('works');
  });

  it.each(['&__redis__:invalidate', '+subscribe', '+client|id', '+client|tracking'])(
    'does not without %s',
    async (right) => {
      await node.client.call(
        'ACL',
        rule.filter((each) => each !== right),
      );
      await expect(follow()).resolves.toContain('NOPERM');
    },
  );
});

describe('a cluster, with the documented rights', () => {
  let cluster: RedisCluster;
  let client: Cluster;

  beforeAll(async () => {
    cluster = await startRedisCluster();
    for (const node of cluster.primaries) {
      await node.client.call('ACL', await documentedRule('cluster'));
    }
    const nodes = cluster.primaries.map(({ port }) => ({ host: '127.0.0.1', port }));
    client = new Cluster(nodes, { redisOptions: credentials });
  });
  afterAll(async () => {
    client?.disconnect();
    await cluster?.[Symbol.asyncDispose]();
  });

  describeStoreContract(
    'RedisClusterStore',
    async () => {
      const flush = async () => {
        await Promise.all(cluster.primaries.map((node) => node.client.flushall()));
      };
      return { store: new RedisClusterStore(client), prefix: nextPrefix(), loseEverything: flush, dispose: flush };
    },
    FEW,
  );

  /** Reads by a store opened by URL, also while a slot moves. Rejects unless everything works. */
  async function readWhileSlotMoves(): Promise<void> {
    const store = openStore(cluster.url.replace('//', '//cache:password@'));
    const keys = Array.from({ length: 20 }, (_, index) => `shop:{moves}:${index}`);
    const home = await cluster.primaryOf('{moves}');
    const other = cluster.primaries.find((node) => node !== home)!;
    const slot = await cluster.slotOf('{moves}');
    let failure: unknown;
    try {
      await everything(store);
      await store.readMany(keys, { leaseMs: LONG });
      await cluster.moveSlot(slot, home, other, async () => {
        await store.readMany(keys).catch((error: unknown) => (failure ??= error));
      });
      await cluster.moveSlot(slot, other, home);
      if (failure) throw failure as Error;
    } finally {
      await store.close();
    }
  }

  it('a store opened by URL works, also while a slot moves', async () => {
    await expect(readWhileSlotMoves()).resolves.toBeUndefined();
  });

  it.each(['+cluster|slots', '+cluster|info'])('%s cannot be spared', async (right) => {
    const rule = await documentedRule('cluster');
    const asUsual = async (rights: string[]) => {
      for (const node of cluster.primaries) await node.client.call('ACL', rights);
    };
    await asUsual(rule.filter((each) => each !== right));
    try {
      await expect(readWhileSlotMoves()).rejects.toThrow(/NOPERM|cannot be reached/);
    } finally {
      await asUsual(rule);
    }
  });
});
