import type { EntityManager } from '@mikro-orm/postgresql';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

describe.each(storeKinds)('races over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;
  let rows = 0;

  beforeAll(async () => {
    cluster = await startCluster(kind, { entities: [Tag] });
    [one, other] = cluster.services;
  });

  beforeEach(() => cluster.services.forEach(({ store }) => store.dropPauses()));

  afterAll(() => cluster[Symbol.asyncDispose]());

  /**
   * A row of weight 1. Under a guard its lookup has never been seen; under a lease the lookup is known and the row is
   * not; and a reader of the primary key always gets a lease.
   */
  async function rowFor(permit: string): Promise<{ id: number; where: { name: string } | { id: number } }> {
    rows += 1;
    const name = `row ${rows}`;
    const em = one.em();
    const tag = em.create(Tag, { name, weight: 1 });
    await em.flush();
    if (permit === 'a lease') {
      await get({ name })(one.em());
      await one.plus.evict(Tag, tag.id);
    }
    return { id: tag.id, where: permit === 'a lease on the primary key' ? { id: tag.id } : { name } };
  }

  const get = (where: { name: string } | { id: number }) => async (em: EntityManager) =>
    (await em.getRepository(Tag).getOrCreate(where))[0];

  const update = (id: number, weight: number) => async (em: EntityManager) => {
    (await em.findOneOrFail(Tag, id)).weight = weight;
    await em.flush();
  };

  describe.each(['a guard', 'a lease', 'a lease on the primary key'])('a reader with %s', (permit) => {
    it.each<[string, (service: Service, id: number) => Promise<unknown>, number]>([
      ['a flush', (service, id) => update(id, 2)(service.em()), 2],
      ['updateOrCreate', (service, id) => service.em().getRepository(Tag).updateOrCreate({ id }, { weight: 2 }), 2],
      ['nativeUpdate', (service, id) => service.em().getRepository(Tag).nativeUpdate(id, { weight: 2 }), 2],
      [
        'upsert',
        (service, id) =>
          service
            .em()
            .getRepository(Tag)
            .upsert({ id, name: `row ${rows}`, weight: 2 }),
        2,
      ],
      [
        'SQL and evict',
        async (service, id) => {
          await service.em().execute('update tag set weight = 2 where id = ?', [id]);
          await service.plus.evict(Tag, id);
        },
        2,
      ],
      [
        'SQL and evictAll',
        async (service, id) => {
          await service.em().execute('update tag set weight = 2 where id = ?', [id]);
          await service.plus.evictAll(Tag);
        },
        2,
      ],
    ])('that has selected the old row stores nothing after %s', async (_, write, expected) => {
      const { id, where } = await rowFor(permit);
      const before = other.plus.statistics(Tag);
      const filling = other.store.pauseNext('fillMany');
      const reading = get(where)(other.em());
      await filling.reached;
      await write(one, id);
      filling.open();
      expect((await reading).weight).toBe(1);
      expect(other.plus.statistics(Tag).fills).toBe(before.fills);
      expect(other.plus.statistics(Tag).refusedFills).toBe(before.refusedFills + 1);
      for (const service of [one, other, one]) expect((await service.watch(get(where))).result.weight).toBe(expected);
      expect((await other.watch(get(where))).sql).toEqual([]);
    });

    it('that has selected the old row stores nothing while it is locked', async () => {
      const { id, where } = await rowFor(permit);
      const filling = other.store.pauseNext('fillMany');
      const reading = get(where)(other.em());
      await filling.reached;
      const locking = one.store.pauseNext('lockMany', { when: 'after' });
      const releasing = one.store.pauseNext('releaseMany');
      const writing = update(id, 2)(one.em());
      await locking.reached;
      filling.open();
      await reading;
      // before the commit: what another reader selects now is not stored either
      expect((await other.watch(get(where))).result.weight).toBe(1);
      locking.open();
      await releasing.reached;
      expect((await other.watch(get(where))).result.weight).toBe(2);
      releasing.open();
      await writing;
      expect((await other.watch(get(where))).result.weight).toBe(2);
      expect((await other.watch(get(where))).sql).toEqual([]);
    });

    it('that selects while the row is locked stores nothing after the release', async () => {
      const { id, where } = await rowFor(permit);
      const locking = one.store.pauseNext('lockMany', { when: 'after' });
      const writing = update(id, 2)(one.em());
      await locking.reached;
      const guarding = other.store.pauseNext('guard', { when: 'after' });
      const filling = other.store.pauseNext('fillMany');
      const reading = get(where)(other.em());
      await guarding.reached;
      guarding.open();
      await filling.reached;
      locking.open();
      await writing;
      filling.open();
      expect((await reading).weight).toBe(1);
      expect((await other.watch(get(where))).result.weight).toBe(2);
    });

    it('may store the old row as long as nobody has locked it', async () => {
      const { id, where } = await rowFor(permit);
      const locking = one.store.pauseNext('lockMany');
      const writing = update(id, 2)(one.em());
      await locking.reached;
      expect((await other.watch(get(where))).result.weight).toBe(1);
      expect((await other.watch(get(where))).sql).toEqual([]);
      locking.open();
      await writing;
      expect((await other.watch(get(where))).result.weight).toBe(2);
    });

    it('that has selected a row stores nothing after its deletion', async () => {
      const { id, where } = await rowFor(permit);
      const filling = other.store.pauseNext('fillMany');
      const reading = get(where)(other.em());
      await filling.reached;
      const em = one.em();
      await em.remove(em.getReference(Tag, id)).flush();
      filling.open();
      await reading;
      const [tag, created] = await one
        .em()
        .getRepository(Tag)
        .getOrCreate({ ...where, name: `row ${rows}` }, { weight: 4 });
      expect(created).toBe(true);
      expect((await other.watch(get({ id: tag.id }))).result.weight).toBe(4);
    });
  });

  it('keeps a new row out of the store when it was changed before its creator could store it', async () => {
    const name = 'new and changed';
    const filling = other.store.pauseNext('fillMany');
    const creating = other.em().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
    await filling.reached;
    const [{ id }] = await one.em().getRepository(Tag).updateOrCreate({ name }, { weight: 2 });
    filling.open();
    expect((await creating)[1]).toBe(true);
    expect((await other.watch(get({ id }))).result.weight).toBe(2);
    expect((await other.watch(get({ name }))).result.weight).toBe(2);
  });

  describe('two writers of one row', () => {
    it('leave the row of the last one, although the first releases last', async () => {
      const { id } = await rowFor('a guard');
      const releasing = one.store.pauseNext('releaseMany');
      const first = one.em().getRepository(Tag).updateOrCreate({ id }, { weight: 2 });
      await releasing.reached;
      await other.em().getRepository(Tag).updateOrCreate({ id }, { weight: 3 });
      expect((await other.watch(get({ id }))).result.weight).toBe(3);
      releasing.open();
      await first;
      for (const service of [one, other]) expect((await service.watch(get({ id }))).result.weight).toBe(3);
    });

    it('leave the row of the last one, although the first releases between its lock and its commit', async () => {
      const { id } = await rowFor('a guard');
      const releasing = one.store.pauseNext('releaseMany');
      const first = one.em().getRepository(Tag).updateOrCreate({ id }, { weight: 2 });
      await releasing.reached;
      const locking = other.store.pauseNext('lockMany', { when: 'after' });
      const second = other.em().getRepository(Tag).updateOrCreate({ id }, { weight: 3 });
      await locking.reached;
      releasing.open();
      await first;
      expect((await one.watch(get({ id }))).sql).toHaveLength(1);
      locking.open();
      await second;
      for (const service of [one, other]) expect((await service.watch(get({ id }))).result.weight).toBe(3);
    });

    it('of which the one fails to commit leave the row of the other', async () => {
      await one.em().execute(`
        create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
        create constraint trigger refuse after insert on tag deferrable initially deferred
          for each row when (new.name = 'refused') execute function refuse()`);
      const { id } = await rowFor('a guard');
      await get({ id })(other.em());
      const locking = one.store.pauseNext('lockMany', { when: 'after' });
      const failing = one.em().transactional(async (em) => {
        await em.getRepository(Tag).evict({ id });
        await em.getRepository(Tag).getOrCreate({ name: 'refused' }, { weight: 1 });
      });
      await locking.reached;
      await other.em().getRepository(Tag).updateOrCreate({ id }, { weight: 3 });
      locking.open();
      await expect(failing).rejects.toThrow('refused');
      for (const service of [one, other]) expect((await service.watch(get({ id }))).result.weight).toBe(3);
    });
  });
});
