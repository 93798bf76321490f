import type { EntityManager } from '@mikro-orm/postgresql';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

/** With `implicitTransactions: false` a flush has no transaction: its statements are committed one by one. */
describe.each(storeKinds)('a flush without a transaction, over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;
  let rows = 0;

  beforeAll(async () => {
    cluster = await startCluster(kind, { entities: [Tag], orm: { implicitTransactions: false } });
    [one, other] = cluster.services;
  });

  beforeEach(() => one.store.dropPauses());

  afterAll(() => cluster[Symbol.asyncDispose]());

  const weightOf = async (em: EntityManager, id: number): Promise<number> =>
    (await em.getRepository(Tag).getOrCreate({ id }))[0].weight;

  async function cachedRow(): Promise<number> {
    rows += 1;
    const [{ id }] = await one
      .em()
      .getRepository(Tag)
      .getOrCreate({ name: `row ${rows}` }, { weight: 1 });
    return id;
  }

  it('locks its rows before its statements, and releases them after', async () => {
    const ids = [await cachedRow(), await cachedRow()];
    const em = one.em();
    for (const tag of await em.find(Tag, { id: ids })) tag.weight = 2;
    const releasing = one.store.pauseNext('releaseMany');
    one.store.takeCalls();
    const { sql } = await one.watch(async () => {
      const flushing = em.flush();
      await releasing.reached;
      for (const id of ids) expect(await weightOf(other.em(), id)).toBe(2);
      releasing.open();
      await flushing;
    });
    expect(sql.join()).not.toMatch(/begin|commit/);
    expect(one.store.takeCalls()).toEqual(['lockMany', 'lockMany', 'releaseMany']);
    for (const id of ids) expect(await weightOf(other.em(), id)).toBe(2);
    expect((await other.watch((fork) => weightOf(fork, ids[0]!))).sql).toEqual([]);
  });

  it('keeps a reader that selected before its statement from storing the old row', async () => {
    const id = await cachedRow();
    await one.plus.evict(Tag, id);
    const filling = other.store.pauseNext('fillMany');
    const reading = weightOf(other.em(), id);
    await filling.reached;
    const em = one.em();
    (await em.findOneOrFail(Tag, id)).weight = 2;
    await em.flush();
    filling.open();
    await reading;
    expect(await weightOf(other.em(), id)).toBe(2);
  });

  it('never leaves a stale row when it fails halfway', async () => {
    const [first, second] = [await cachedRow(), await cachedRow()];
    const em = one.em();
    const tags = await em.find(Tag, { id: [first, second] }, { orderBy: { id: 'asc' } });
    tags[0]!.weight = 2;
    em.create(Tag, { name: tags[1]!.name });
    await expect(em.flush()).rejects.toThrow('duplicate key');
    const inDatabase = (await other.em().findOneOrFail(Tag, first)).weight;
    for (const service of [one, other]) expect(await weightOf(service.em(), first)).toBe(inDatabase);

    const again = one.em();
    (await again.findOneOrFail(Tag, first)).weight = 3;
    await again.flush();
    for (const service of [one, other, one]) expect(await weightOf(service.em(), first)).toBe(3);
  });

  it('is not released by an upsert that ends meanwhile on the same EntityManager', async () => {
    const [flushed, upserted] = [await cachedRow(), await cachedRow()];
    await one.plus.evict(Tag, flushed);
    const em = one.em();
    (await em.findOneOrFail(Tag, flushed)).weight = 2;
    const { name } = await one.em().findOneOrFail(Tag, upserted);
    const locking = one.store.pauseNext('lockMany', { when: 'after' });
    const flushing = em.flush();
    await locking.reached;
    await em.upsert(Tag, { name, weight: 5 });
    // the old row is still the one in the database, and must not be stored: the statement is about to be sent
    expect(await weightOf(other.em(), flushed)).toBe(1);
    locking.open();
    await flushing;
    expect(await weightOf(other.em(), flushed)).toBe(2);
    expect(await weightOf(other.em(), upserted)).toBe(5);
  });

  it('covers deletions, and transactions that are opened all the same', async () => {
    const [deleted, changed] = [await cachedRow(), await cachedRow()];
    const em = one.em();
    const { name } = await em.findOneOrFail(Tag, deleted);
    await em.remove(em.getReference(Tag, deleted)).flush();
    const [, created] = await other.em().getRepository(Tag).getOrCreate({ name });
    expect(created).toBe(true);
    await one.em().transactional(async (inner) => {
      (await inner.findOneOrFail(Tag, changed)).weight = 4;
      await inner.flush();
      expect(await weightOf(other.em(), changed)).toBe(1);
    });
    expect(await weightOf(other.em(), changed)).toBe(4);
  });
});
