import { Redis } from 'ioredis';
import { openStore } from '../../src/stores/open-store.js';
import { RedisStore } from '../../src/stores/redis/RedisStore.js';
import { eventually, type SentinelSetup, startSentinel } from '../harness/redis-topologies.js';
import { Load } from './redis-load/load.js';

const keys = Array.from({ length: 8 }, (_, index) => `tag:${index}`);

let setup: SentinelSetup;
beforeEach(async () => {
  setup = await startSentinel();
});
afterEach(() => setup?.servers[Symbol.asyncDispose]());

const promoted = () =>
  eventually('a replica is promoted', async () => {
    const infos = await Promise.all(setup.replicas.map((replica) => replica.client.info('replication')));
    return infos.some((info) => info.includes('role:master'));
  });

it('a store by URL follows a failover after the death of the primary, without a stale read', async () => {
  const stores = [openStore(setup.url), openStore(`${setup.url}?db=0`)];
  const load = new Load(stores, keys, 'tag');
  await load.progress();
  setup.primary.signal('SIGKILL');
  await promoted();
  await load.progress();
  await eventually('no replica follows the old primary any more', async () => {
    const infos = await Promise.all(setup.replicas.map((replica) => replica.client.info('replication')));
    return infos.every((info) => !info.includes(`master_port:${setup.primary.port}`));
  });
  await setup.primary.start();
  await eventually('the old primary is a replica', async () =>
    (await setup.primary.client.info('replication')).includes('role:slave'),
  );
  await load.progress();
  expect((await load.stop()).stale).toEqual([]);
  await Promise.all(stores.map((store) => store.close()));
});

it('a store by URL leaves a primary that hangs', async () => {
  const store = openStore(setup.url);
  expect(store).toBeInstanceOf(RedisStore);
  await store.evictMany([{ key: 'tag:1', region: 'tag' }]);
  setup.primary.signal('SIGSTOP');
  await promoted();
  await eventually('the store has found the new primary', () =>
    Promise.race([
      store.evictMany([{ key: 'tag:1', region: 'tag' }]).then(() => true),
      new Promise<boolean>((resolve) => setTimeout(resolve, 500, false)),
    ]),
  );
  await store.close();
});

it('a store follows a failover with a client that was handed in', async () => {
  const client = new Redis({
    sentinels: setup.sentinels.map(({ port }) => ({ host: '127.0.0.1', port })),
    name: 'main',
    maxRetriesPerRequest: 1,
  });
  client.on('error', () => {});
  const store = openStore(client);
  const load = new Load([store], keys, 'tag');
  await load.progress();
  await setup.sentinels[0]!.client.call('SENTINEL', ['FAILOVER', 'main']);
  await promoted();
  await load.progress();
  expect((await load.stop()).stale).toEqual([]);
  client.disconnect();
});
