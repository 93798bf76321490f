import { defineEntity, p } from '@mikro-orm/postgresql';
import { ConfigurationError, StoreError, withPlusRepo, type Progress } from '../../src/index.js';
import { startCluster, storeKinds, type Service } from './support/cluster.js';

const Shop = withPlusRepo(
  defineEntity({ name: 'Shop', properties: { id: p.integer().primary(), slug: p.string().unique() } }),
);
const Item = withPlusRepo(
  defineEntity({
    name: 'Item',
    indexes: [],
    uniques: [{ properties: ['shop', 'sku'] }],
    properties: {
      id: p.integer().primary(),
      shop: () => p.manyToOne(Shop),
      sku: p.string(),
      ean: p.string().nullable().unique(),
      weight: p.integer().default(0),
    },
  }),
);
/** Its key has two parts, one of them a relation. */
const Stock = withPlusRepo(
  defineEntity({
    name: 'Stock',
    properties: {
      shop: () => p.manyToOne(Shop).primary(),
      item: () => p.manyToOne(Item).primary(),
      amount: p.integer().default(0),
    },
  }),
);
const entities = [Shop, Item, Stock];
const COUNT = 25;

/** Rows that no cache knows of. */
async function seed({ orm }: Service): Promise<void> {
  await orm.em.fork().execute(`insert into shop (id, slug) values (1, 'one'), (2, 'two')`);
  await orm.em.fork().execute(`insert into item (id, shop_id, sku, ean, weight)
    select i, 1 + i % 2, 'sku' || i, case when i % 3 = 0 then null else 'ean' || i end, i from generate_series(1, ${COUNT}) i`);
  await orm.em
    .fork()
    .execute(`insert into stock (shop_id, item_id) select 1 + i % 2, i from generate_series(1, ${COUNT}) i`);
}

describe.each(storeKinds)('warmUp in a %s store', (kind) => {
  it('answers every lookup by a unique key afterwards, without SQL', async () => {
    await using cluster = await startCluster(kind, { entities });
    const [one, other] = cluster.services;
    await seed(one);
    const told: Progress[] = [];
    const onProgress = (progress: Progress): void => void told.push(progress);
    await expect(one.em().getRepository(Item).warmUp({}, { chunkSize: 10, onProgress })).resolves.toBe(COUNT);
    expect(told).toEqual([10, 20, COUNT].map((done) => ({ done, total: COUNT })));
    await expect(one.em().getRepository(Stock).warmUp({}, { chunkSize: 7 })).resolves.toBe(COUNT);
    expect(one.plus.statistics(Item)).toMatchObject({ fills: COUNT, lookups: 0 });

    const { sql } = await other.watch(async (em) => {
      for (let id = 1; id <= COUNT; id++) {
        const wheres = [
          { id },
          { shop: 1 + (id % 2), sku: `sku${id}` },
          ...(id % 3 === 0 ? [] : [{ ean: `ean${id}` }]),
        ];
        for (const where of wheres) {
          const [item, created] = await em.fork().getRepository(Item).getOrCreate(where);
          expect([item.id, item.weight, created]).toEqual([id, id, false]);
        }
        const [stock] = await em
          .fork()
          .getRepository(Stock)
          .getOrCreate({ shop: 1 + (id % 2), item: id });
        expect(stock.amount).toBe(0);
      }
    });
    expect(sql).toEqual([]);
  });

  it('fills only what the query finds', async () => {
    await using cluster = await startCluster(kind, { entities });
    const [one] = cluster.services;
    await seed(one);
    await expect(
      one
        .em()
        .getRepository(Item)
        .warmUp({ weight: { $gt: 20 } }),
    ).resolves.toBe(5);
    await expect(
      one
        .em()
        .getRepository(Item)
        .warmUp({ shop: { slug: 'one' } }, { chunkSize: 3 }),
    ).resolves.toBe(12);
    await expect(one.em().getRepository(Item).warmUp({ weight: 1_000 })).resolves.toBe(0);
    await expect(one.plus.warmUp(Shop)).resolves.toBe(2);
  });

  it("doesn't put back a row that was written while it was read", async () => {
    await using cluster = await startCluster(kind, { entities });
    const [one, other] = cluster.services;
    await seed(one);
    const filling = one.store.pauseNext('fillMany');
    const warming = one.em().getRepository(Item).warmUp();
    await filling.reached;
    await other.em().getRepository(Item).updateOrCreate({ id: 3 }, { weight: 333 });
    filling.open();
    // the guard is one for the chunk: it is void for all of it
    await expect(warming).resolves.toBe(0);
    expect(one.plus.statistics(Item)).toMatchObject({ fills: 0, refusedFills: COUNT });
    const [item] = await one.em().getRepository(Item).getOrCreate({ id: 3 });
    expect(item.weight).toBe(333);
  });
});

describe('warmUp', () => {
  it('ends between chunks when it is told to, and keeps what it has', async () => {
    await using cluster = await startCluster('memory', { entities });
    const [one] = cluster.services;
    await seed(one);
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(new Error('enough'));
    const { signal } = controller;
    await expect(one.em().getRepository(Item).warmUp({}, { chunkSize: 10, onProgress, signal })).rejects.toThrow(
      'enough',
    );
    expect(one.plus.statistics(Item).fills).toBe(10);
  });

  it('reads what is committed, whatever transaction is open around it', async () => {
    await using cluster = await startCluster('memory', { entities });
    const [one] = cluster.services;
    await seed(one);
    await one.em().transactional(async (em) => {
      await em.getRepository(Shop).updateOrCreate({ id: 1 }, { slug: 'uncommitted' });
      await expect(em.getRepository(Shop).warmUp()).resolves.toBe(2);
      const cached = await one.watch(async (outer) => (await outer.getRepository(Shop).getOrCreate({ id: 1 }))[0].slug);
      expect(cached).toEqual({ result: 'one', sql: [] });
    });
    const [shop] = await one.em().getRepository(Shop).getOrCreate({ id: 1 });
    expect(shop.slug).toBe('uncommitted');
  });

  it('fails when the store is down, or what is asked for makes no sense', async () => {
    await using cluster = await startCluster('memory', { entities });
    const [one] = cluster.services;
    await seed(one);
    await expect(one.plus.warmUp(Item)).rejects.toThrow(ConfigurationError);
    await expect(one.em().getRepository(Item).warmUp({}, { chunkSize: 0 })).rejects.toThrow('positive integer');
    one.store.fail();
    await expect(one.em().getRepository(Item).warmUp()).rejects.toThrow(StoreError);
  });
});
