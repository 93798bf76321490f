import { defineEntity, p } from '@mikro-orm/core';
import { CachedRepo, PlusSubscriber, cacheRegion, withRepo } from '../../src/index.js';
import { connectTestOrm, createTestOrm } from '../harness/orm.js';
import { startServers, testPrefix } from '../harness/servers.js';

const define = (name: string, strategy: 'nonstrict-read-write' | 'read-write') =>
  cacheRegion(
    withRepo(
      defineEntity({
        name,
        properties: { id: p.integer().primary(), name: p.string().unique(), bar: p.integer().default(0) },
      }),
      CachedRepo,
    ),
    { strategy, store: 'memcached' },
  );

const Loose = define('Loose', 'nonstrict-read-write');
const Strict = define('Strict', 'read-write');

it('serves nonstrict-read-write regions to two services, and no read-write region', async () => {
  await using servers = await startServers({ memcached: true });
  const stores = { default: servers.memcached!.url, memcached: servers.memcached!.url };
  const options = { stores, prefix: testPrefix(), timeout: 20_000 };
  const [here, there] = [new PlusSubscriber(options), new PlusSubscriber(options)];
  await using db = await createTestOrm({ entities: [Loose, Strict], subscribers: [here] });
  await using other = await connectTestOrm(db.url, { entities: [Loose, Strict], subscribers: [there] });
  const repo = (from = db) => from.orm.em.fork().getRepository(Loose);

  await repo().getOrCreate({ name: 'a' }, { bar: 0 });
  for (let bar = 1; bar <= 5; bar++) {
    other.statements.take();
    expect((await repo(other).getOrCreate({ name: 'a' }))[0].bar).toBe(bar - 1);
    expect((await repo(other).getOrCreate({ name: 'a' }))[0].bar).toBe(bar - 1);
    expect(other.statements.take().length).toBeLessThanOrEqual(1);
    const em = db.orm.em.fork();
    (await em.findOneOrFail(Loose, { name: 'a' })).bar = bar;
    await em.flush();
    expect((await repo().getOrCreate({ name: 'a' }))[0].bar).toBe(bar);
  }
  expect((await repo(other).getOrCreate({ name: 'a' }))[0].bar).toBe(5);
  expect(there.statistics(Loose).storeHits).toBeGreaterThanOrEqual(5);

  const strict = db.orm.em.fork().getRepository(Strict).getOrCreate({ name: 'a' });
  await expect(strict).rejects.toThrow('has no soft locks');
});
