import { IsolationLevel, TransactionPropagation, type EntityManager, type Transaction } from '@mikro-orm/postgresql';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

const asksForIsolation = expect.stringContaining('transaction_isolation');
const selectsTag = expect.stringContaining('from "tag"');

describe.each(storeKinds)('inside a transaction, with a cache over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;
  let rows = 0;

  beforeAll(async () => {
    cluster = await startCluster(kind, { entities: [Tag] });
    [one, other] = cluster.services;
  });

  beforeEach(() => one.store.dropPauses());

  afterAll(() => cluster[Symbol.asyncDispose]());

  function newName(): string {
    rows += 1;
    return `row ${rows}`;
  }

  async function cachedRow(): Promise<{ name: string; id: number }> {
    const name = newName();
    const [{ id }] = await one.em().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
    return { name, id };
  }

  /** A row that is in no cache. */
  async function uncachedRow(): Promise<{ name: string; id: number }> {
    const em = one.em();
    const tag = em.create(Tag, { name: newName(), weight: 1 });
    await em.flush();
    return { name: tag.name, id: tag.id };
  }

  const get = (name: string) => async (em: EntityManager) => (await em.getRepository(Tag).getOrCreate({ name }))[0];

  it('asks for the isolation level once, and for nothing that is known', async () => {
    const [first, second] = [await cachedRow(), await cachedRow()];
    const { sql } = await one.watch((em) =>
      em.transactional(async (inner) => {
        await Promise.all([get(first.name)(inner), get(second.name)(inner)]);
        await inner.transactional(get((await uncachedRow()).name));
        await get(first.name)(inner);
      }),
    );
    expect(sql.filter((statement) => statement.includes('transaction_isolation'))).toHaveLength(1);
    expect(sql.filter((statement) => statement.includes('from "tag"'))).toHaveLength(1);
  });

  it('asks for nothing when the identity map answers', async () => {
    const { name } = await cachedRow();
    const { sql } = await one.watch(async (em) => {
      await get(name)(em);
      await em.begin();
      await get(name)(em);
      await em.rollback();
    });
    expect(sql).toEqual(['begin', 'rollback']);
  });

  it('fills from a transaction that has only read', async () => {
    const { name, id } = await uncachedRow();
    await one.em().transactional(get(name));
    expect((await other.watch(get(name))).sql).toEqual([]);
    expect((await other.watch((em) => em.getRepository(Tag).getOrCreate({ id }))).sql).toEqual([]);
  });

  it.each([
    ['SQL', (em: EntityManager, name: string) => em.execute('update tag set weight = 2 where name = ?', [name])],
    [
      'SQL on another row',
      (em: EntityManager) => em.execute(`insert into tag (name, weight) values (?, 1)`, [newName()]),
    ],
    [
      'a query builder',
      (em: EntityManager, name: string) => em.qb(Tag).update({ weight: 2 }).where({ name }).execute(),
    ],
    ['em.nativeUpdate', (em: EntityManager, name: string) => em.nativeUpdate(Tag, { name }, { weight: 2 })],
    ['em.insert', (em: EntityManager) => em.insert(Tag, { name: newName(), weight: 1 })],
    [
      'repository.insertMany',
      (em: EntityManager) => em.getRepository(Tag).insertMany([{ name: newName(), weight: 1 }]),
    ],
  ])('fills nothing from a transaction that has written by %s', async (_, write) => {
    const { name } = await uncachedRow();
    await one.em().transactional(async (em) => {
      await write(em, name);
      await get(name)(em);
      await em.transactional(get(name));
    });
    expect((await other.watch(get(name))).sql).toEqual([selectsTag]);
  });

  it('shows created rows to nobody before the commit, and caches them at the next read', async () => {
    const name = newName();
    let id = 0;
    await one.em().transactional(async (em) => {
      const [tag, created] = await em.getRepository(Tag).getOrCreate({ name }, { weight: 1 });
      expect(created).toBe(true);
      id = tag.id;
      em.clear();
      await get(name)(em);
      em.clear();
      await em.getRepository(Tag).getOrCreate({ id });
      await expect(other.em().findOne(Tag, { name })).resolves.toBeNull();
      // neither the cache nor the database has it, and what would be created then isn't complete
      await expect(other.em().getRepository(Tag).getOrCreate({ id })).rejects.toThrow('Tag.name is required');
    });
    expect((await other.watch(get(name))).sql).toEqual([selectsTag]);
    expect((await one.watch(get(name))).sql).toEqual([]);
  });

  it('forgets created rows that are rolled back', async () => {
    const name = newName();
    const em = one.em();
    await em.begin();
    await em.getRepository(Tag).getOrCreate({ name }, { weight: 1 });
    em.clear();
    await get(name)(em);
    await em.rollback();
    const [, created] = await other.em().getRepository(Tag).getOrCreate({ name }, { weight: 3 });
    expect(created).toBe(true);
    expect((await one.watch(get(name))).result.weight).toBe(3);
  });

  it('keeps what only a savepoint changed and undid out of the cache', async () => {
    const { name, id } = await cachedRow();
    await one.em().transactional(async (outer) => {
      const failed = outer.transactional(async (inner) => {
        (await inner.findOneOrFail(Tag, id)).weight = 2;
        await inner.flush();
        inner.clear();
        expect((await get(name)(inner)).weight).toBe(2);
        throw new Error('undo the savepoint');
      });
      await expect(failed).rejects.toThrow('undo the savepoint');
      outer.clear();
      expect((await get(name)(outer)).weight).toBe(1);
    });
    for (const service of [other, one, other]) expect((await service.watch(get(name))).result.weight).toBe(1);
    expect((await other.watch(get(name))).sql).toEqual([]);
  });

  it('evicts what a committed savepoint changed, and what changed around a savepoint that was undone', async () => {
    const [outside, inside] = [await cachedRow(), await cachedRow()];
    await one.em().transactional(async (outer) => {
      await outer.getRepository(Tag).updateOrCreate({ name: outside.name }, { weight: 2 });
      await outer.transactional((inner) =>
        inner.getRepository(Tag).updateOrCreate({ name: inside.name }, { weight: 2 }),
      );
      await outer.transactional(async () => Promise.reject(new Error('undone'))).catch(() => undefined);
    });
    for (const { name } of [outside, inside]) expect((await other.watch(get(name))).result.weight).toBe(2);
  });

  it('goes on after a savepoint in which the isolation level could not be asked', async () => {
    const { name } = await cachedRow();
    const { sql } = await one.watch((em) =>
      em.transactional(async (outer) => {
        const failed = outer.transactional(async (inner) => {
          await inner.execute('select 1 / 0').catch(() => undefined);
          await get(name)(inner);
        });
        await expect(failed).rejects.toThrow('current transaction is aborted');
        expect((await get(name)(outer)).weight).toBe(1);
      }),
    );
    expect(sql).toContainEqual(asksForIsolation);
    expect(sql).not.toContainEqual(selectsTag);
  });

  it.each([IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])(
    'bypasses the cache under %s',
    async (isolationLevel) => {
      const [{ name }, uncached] = [await cachedRow(), await uncachedRow()];
      const { sql } = await one.watch((em) =>
        em.transactional(
          async (inner) => {
            await get(name)(inner);
            await get(uncached.name)(inner);
          },
          { isolationLevel },
        ),
      );
      expect(sql.filter((statement) => statement.includes('from "tag"'))).toHaveLength(2);
      expect((await other.watch(get(uncached.name))).sql).toHaveLength(1);
    },
  );

  it('evicts a row that is deleted, at the commit and not before', async () => {
    for (const remove of [
      async (em: EntityManager, id: number) => em.remove(await em.findOneOrFail(Tag, id)).flush(),
      async (em: EntityManager, id: number) => em.remove(em.getReference(Tag, id)).flush(),
      async (em: EntityManager, id: number) => em.getRepository(Tag).nativeDelete(id),
      async (em: EntityManager, id: number) =>
        em.getRepository(Tag).nativeDelete({ id: { $in: [id] }, weight: { $gt: 0 } }),
    ]) {
      const { name, id } = await cachedRow();
      await one.em().transactional(async (em) => {
        await remove(em, id);
        expect((await other.watch(get(name))).result.id).toBe(id);
      });
      const [tag, created] = await other.em().getRepository(Tag).getOrCreate({ name }, { weight: 7 });
      expect(created).toBe(true);
      expect(tag.id).not.toBe(id);
    }
  });

  it.each([
    [
      'flush',
      async (em: EntityManager, id: number, to: number) => {
        const tag = await em.findOneOrFail(Tag, id);
        tag.id = to;
        await em.flush();
      },
    ],
    [
      'repository.nativeUpdate',
      async (em: EntityManager, id: number, to: number) => {
        await em.getRepository(Tag).nativeUpdate({ id }, { id: to });
      },
    ],
    [
      'repository.updateOrCreate',
      async (em: EntityManager, id: number, to: number) => {
        await em.getRepository(Tag).updateOrCreate({ id }, { id: to });
      },
    ],
  ])('moves a row to another primary key by %s', async (_, move) => {
    const { name, id } = await cachedRow();
    const to = id + 1_000_000 + rows;
    await one.em().transactional((em) => move(em, id, to));
    expect((await other.watch(get(name))).result.id).toBe(to);
    const second = one.em();
    (await second.findOneOrFail(Tag, to)).weight = 8;
    await second.flush();
    const [tag] = await other.em().getRepository(Tag).getOrCreate({ id: to });
    expect(tag).toMatchObject({ name, weight: 8 });
    await expect(other.em().getRepository(Tag).getOrCreate({ id, name })).rejects.toThrow(/duplicate key/);
  });

  it.each<[string, (em: EntityManager, name: string, options: { ctx: Transaction }) => Promise<unknown>]>([
    ['nativeUpdate', (em, name, options) => em.getRepository(Tag).nativeUpdate({ name }, { weight: 2 }, options)],
    ['nativeDelete', (em, name, options) => em.getRepository(Tag).nativeDelete({ name }, options)],
    ['upsert', (em, name, options) => em.getRepository(Tag).upsert({ name, weight: 2 }, options)],
    ['upsertMany', (em, name, options) => em.getRepository(Tag).upsertMany([{ name, weight: 2 }], options)],
  ])('covers repository.%s in a transaction that is given as an option', async (kindOfWrite, write) => {
    const { name, id } = await cachedRow();
    const owner = one.em();
    await owner.begin();
    await write(one.em(), name, { ctx: owner.getTransactionContext() });
    expect((await other.watch(get(name))).result).toMatchObject({ id, weight: 1 });
    await owner.commit();
    const [tag, created] = await other.em().getRepository(Tag).getOrCreate({ name }, { weight: 2 });
    expect([tag.weight, created]).toEqual([2, kindOfWrite === 'nativeDelete']);
  });

  it('keeps a transaction of its own apart from the one around it', async () => {
    const [outer, own] = [await cachedRow(), await cachedRow()];
    await one.em().transactional(async (em) => {
      await em.getRepository(Tag).updateOrCreate({ name: outer.name }, { weight: 2 });
      await em.transactional((inner) => inner.getRepository(Tag).updateOrCreate({ name: own.name }, { weight: 2 }), {
        propagation: TransactionPropagation.REQUIRES_NEW,
      });
      expect((await other.watch(get(own.name))).result.weight).toBe(2);
      expect((await other.watch(get(outer.name))).result.weight).toBe(1);
    });
    expect((await other.watch(get(outer.name))).result.weight).toBe(2);
  });

  it('releases what a failing COMMIT has locked', async () => {
    const { name, id } = await cachedRow();
    await one
      .em()
      .execute(
        `create constraint trigger refuse_${id} after update on tag deferrable initially deferred
       for each row when (new.id = ${id}) execute function refuse()`,
      )
      .catch(async () => {
        await one
          .em()
          .execute(`create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$`);
        await one.em().execute(
          `create constraint trigger refuse_${id} after update on tag deferrable initially deferred
         for each row when (new.id = ${id}) execute function refuse()`,
        );
      });
    const update = one.em().transactional((em) => em.getRepository(Tag).updateOrCreate({ name }, { weight: 2 }));
    await expect(update).rejects.toThrow('refused');
    for (const service of [other, one]) expect((await service.watch(get(name))).result.weight).toBe(1);
    expect((await other.watch(get(name))).sql).toEqual([]);
  });

  it('does not store what a lookup has read in a transaction that was begun during it', async () => {
    const { name, id } = await cachedRow();
    await one.plus.evict(Tag, id);
    const em = one.em();
    const reading = one.store.pauseNext('readMany', { when: 'after' });
    const found = get(name)(em);
    await reading.reached;
    await em.begin();
    await em.execute('update tag set weight = 2 where id = ?', [id]);
    await em.nativeUpdate(Tag, { id }, { weight: 2 });
    reading.open();
    await found;
    await em.rollback();
    for (const service of [other, one]) expect((await service.watch(get(name))).result.weight).toBe(1);
  });

  it('stores the row and not the unflushed key of an entity', async () => {
    const { name, id } = await uncachedRow();
    const em = one.em();
    const tag = await em.findOneOrFail(Tag, id);
    await one.em().execute('update tag set name = ? where id = ?', [`${name} renamed`, id]);
    tag.id = id + 5_000_000;
    // the managed entity is known by its old name, so this goes to the database
    await em.getRepository(Tag).getOrCreate({ name: `${name} renamed` });
    await other.em().getRepository(Tag).updateOrCreate({ id }, { weight: 9 });
    expect((await other.watch(get(`${name} renamed`))).result).toMatchObject({ id, weight: 9 });
  });
});
