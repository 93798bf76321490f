import { Tag } from './support/entities.js';
import { startCluster, storeKinds } from './support/cluster.js';

describe.each(storeKinds)('get-or-create with a cache over %s', (kind) => {
  it('answers the second call from the cache when the row never changes', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [service] = cluster.services;
    const em = service.em();
    em.create(Tag, { name: 'orm', weight: 1 });
    await em.flush();

    const first = await service.watch((fork) => fork.getRepository(Tag).getOrCreate({ name: 'orm' }));
    expect(first.sql).toHaveLength(1);
    const second = await service.watch((fork) => fork.getRepository(Tag).getOrCreate({ name: 'orm' }));
    expect(second.sql).toEqual([]);
    const [[tag, created], [again]] = [second.result, first.result];
    expect(created).toBe(false);
    expect(tag).not.toBe(again);
    expect(tag).toEqual(again);
  });

  it('answers from the database after a saved change, and then from the cache again', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    const [tag] = await one.em().getRepository(Tag).getOrCreate({ name: 'orm' }, { weight: 1 });
    expect((await other.watch((em) => em.getRepository(Tag).getOrCreate({ name: 'orm' }))).sql).toEqual([]);

    for (const weight of [2, 3]) {
      const em = one.em();
      (await em.findOneOrFail(Tag, tag.id)).weight = weight;
      await em.flush();
      for (const service of [other, one]) {
        const read = await service.watch((fork) => fork.getRepository(Tag).getOrCreate({ name: 'orm' }));
        expect(read.result[0].weight).toBe(weight);
        expect(read.sql).toHaveLength(service === other ? 1 : 0);
      }
    }
  });

  it('sends no SQL for a row that another EntityManager has just created outside a transaction', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    for (const service of cluster.services) {
      const name = `by service ${cluster.services.indexOf(service)}`;
      const [tag, created] = await service.em().getRepository(Tag).getOrCreate({ name }, { weight: 5 });
      expect(created).toBe(true);
      for (const reader of cluster.services) {
        const byName = await reader.watch((em) => em.getRepository(Tag).getOrCreate({ name }));
        const byKey = await reader.watch((em) => em.getRepository(Tag).getOrCreate({ id: tag.id }));
        for (const { sql, result } of [byName, byKey]) {
          expect(sql).toEqual([]);
          expect(result).toEqual([expect.objectContaining({ id: tag.id, name, weight: 5 }), false]);
        }
      }
    }
  });

  it('sends no SQL for a row that updateOrCreate has just written', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    for (const weight of [1, 2]) {
      const [, created] = await one.em().getRepository(Tag).updateOrCreate({ name: 'orm' }, { weight });
      expect(created).toBe(weight === 1);
      const read = await other.watch((em) => em.getRepository(Tag).getOrCreate({ name: 'orm' }));
      expect(read.result[0].weight).toBe(weight);
      expect(read.sql).toEqual([]);
    }
  });

  it('sends nothing at all for an empty batch', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const { result, sql } = await cluster.services[0].watch((em) =>
      Promise.all([em.getRepository(Tag).getOrCreateMany([]), em.getRepository(Tag).updateOrCreateMany([])]),
    );
    expect(result).toEqual([[], []]);
    expect(sql).toEqual([]);
  });

  it('follows a rename, a deletion and a new row under the old name', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    const get = (name: string, service = other) =>
      service.watch((em) => em.getRepository(Tag).getOrCreate({ name }, { weight: 9 }));
    const [tag] = await one.em().getRepository(Tag).getOrCreate({ name: 'old' }, { weight: 1 });

    const em = one.em();
    const own = await em.findOneOrFail(Tag, tag.id);
    own.name = 'new';
    await em.flush();
    const {
      result: [renamed],
    } = await get('new');
    expect(renamed.id).toBe(tag.id);
    const {
      result: [successor, created],
    } = await get('old');
    expect(created).toBe(true);
    expect(successor.id).not.toBe(tag.id);
    expect((await get('old', one)).sql).toEqual([]);

    em.remove(own);
    await em.flush();
    const {
      result: [reborn, createdAgain],
    } = await get('new');
    expect(createdAgain).toBe(true);
    // the lookup still named the deleted row, so what was leased was the wrong entry
    expect((await get('new', one)).sql).toHaveLength(1);
    const again = await get('new', one);
    expect(again.result[0].id).toBe(reborn.id);
    expect(again.sql).toEqual([]);
  });

  it('caches every row of a batch, whichever call asks for it next', async () => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    const names = ['a', 'b', 'c', 'a'];
    const wheres = names.map((name) => ({ name }));
    await one.em().getRepository(Tag).getOrCreate({ name: 'b' });
    await one
      .em()
      .getRepository(Tag)
      .getOrCreateMany(wheres, (_, index) => ({ weight: index }));

    const many = await other.watch((em) => em.getRepository(Tag).getOrCreateMany(wheres));
    expect(many.sql).toEqual([]);
    expect(many.result.map(([tag]) => tag.name)).toEqual(names);
    expect(many.result[0]![0]).toBe(many.result[3]![0]);
    const single = await other.watch((em) => em.getRepository(Tag).get({ name: 'c' }));
    expect(single.sql).toEqual([]);
  });
});
