import { defineEntity, EntityRepository, LockMode, p, type EntityManager } from '@mikro-orm/postgresql';
import { CachedGetOrCreate, withPlusRepo, withRepo, type CreationContext, type Values } from '../../src/index.js';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import { Tag } from './support/entities.js';

const Mail = withPlusRepo(
  defineEntity({
    name: 'Mail',
    properties: {
      id: p.integer().primary(),
      email: p.string(),
      archived: p.boolean().default(false),
      tag: () => p.manyToOne(Tag).nullable(),
    },
    uniques: [{ properties: ['email'], where: 'not archived' }],
  }),
);

/** Nothing makes its names unique. */
const Loose = withPlusRepo(
  defineEntity({ name: 'Loose', properties: { id: p.integer().primary(), name: p.string() } }),
);

class Redirecting<E extends object> extends CachedGetOrCreate(EntityRepository)<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    const created = await super.createEntity(data, context);
    const { name } = created as { name?: string };
    return name === 'alias' ? context.em.findOneOrFail(this.entityName, { name: 'target' } as never) : created;
  }
}

const Aliased = withRepo(
  defineEntity({
    name: 'Aliased',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
  }),
  Redirecting,
);

describe.each(storeKinds)('the rules of a cache over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;

  beforeAll(async () => {
    cluster = await startCluster(kind, { entities: [Tag, Mail, Loose, Aliased] });
    [one, other] = cluster.services;
  });

  afterAll(() => cluster[Symbol.asyncDispose]());

  const cached = async (name: string): Promise<number> => {
    const [{ id }] = await one.em().getRepository(Tag).getOrCreate({ name }, { weight: 1 });
    expect((await other.watch((em) => em.getRepository(Tag).getOrCreate({ name }))).sql).toEqual([]);
    return id;
  };

  it('a partial index is asked in the database, where its condition is known', async () => {
    const [mail] = await one.em().getRepository(Mail).getOrCreate({ email: 'a@x' });
    await one.em().getRepository(Mail).getOrCreate({ id: mail.id });
    const archive = one.em();
    (await archive.findOneOrFail(Mail, mail.id)).archived = true;
    await archive.flush();
    await one.em().getRepository(Mail).getOrCreate({ id: mail.id });
    const [next, created] = await other.em().getRepository(Mail).getOrCreate({ email: 'a@x' });
    expect(created).toBe(true);
    expect(next.id).not.toBe(mail.id);
    expect((await other.watch((em) => em.getRepository(Mail).getOrCreate({ email: 'a@x' }))).sql).toHaveLength(1);
    await other.em().getRepository(Mail).getOrCreate({ id: next.id });
    expect((await one.watch((em) => em.getRepository(Mail).getOrCreate({ id: next.id }))).sql).toEqual([]);
  });

  it('a lookup that no unique key serves is asked in the database, where a second row may be', async () => {
    const serialize = { serialize: true } as const;
    await one.em().getRepository(Loose).getOrCreate({ name: 'x' }, {}, serialize);
    await one.em().getRepository(Loose).getOrCreate({ name: 'x' }, {}, serialize);
    const em = one.em();
    em.create(Loose, { name: 'x' });
    await em.flush();
    await expect(one.em().getRepository(Loose).getOrCreate({ name: 'x' }, {}, serialize)).rejects.toThrow(
      'More than one',
    );
    await one.em().getRepository(Loose).nativeDelete({});
    for (let round = 0; round < 3; round++) await one.em().getRepository(Loose).getOrCreate({}, { name: 'x' });
    await em.insert(Loose, { name: 'y' });
    await expect(other.em().getRepository(Loose).getOrCreate({})).rejects.toThrow('More than one');
  });

  it('a lookup that names more than a unique key is answered only by a row that has all of it', async () => {
    const id = await cached('more');
    const { sql } = await other.watch((em) => em.getRepository(Tag).getOrCreate({ name: 'more', weight: 1 }));
    expect(sql).toHaveLength(1);
    expect((await other.watch((em) => em.getRepository(Tag).getOrCreate({ weight: 1, name: 'more' }))).sql).toEqual([]);
    await expect(other.em().getRepository(Tag).getOrCreate({ name: 'more', weight: 2 })).rejects.toThrow(
      'duplicate key',
    );
    await expect(other.em().getRepository(Tag).getOrCreate({ id, name: 'less' })).rejects.toThrow('duplicate key');
    await one.em().getRepository(Tag).updateOrCreate({ id }, { weight: 2 });
    expect((await other.em().getRepository(Tag).getOrCreate({ name: 'more', weight: 2 }))[0].id).toBe(id);
    await expect(other.em().getRepository(Tag).getOrCreate({ name: 'more', weight: 1 })).rejects.toThrow(
      'duplicate key',
    );
  });

  it('a read for write, a query of the caller’s and a refresh go to the database', async () => {
    await cached('locked');
    const em = other.em();
    await em.begin();
    const locking = await other.watch(() =>
      em.getRepository(Tag).get({ name: 'locked' }, { lockMode: LockMode.PESSIMISTIC_WRITE }),
    );
    expect(locking.sql).toEqual([expect.stringContaining('for update')]);
    await em.rollback();
    const asking = await other.watch((fork) =>
      fork.getRepository(Tag).getOrCreate({ name: 'locked' }, {}, { lookup: { weight: { $gt: 0 }, name: 'locked' } }),
    );
    expect(asking.sql).toHaveLength(1);
    const refreshing = await other.watch((fork) =>
      fork.getRepository(Tag).getOrCreate({ name: 'locked' }, {}, { refresh: true }),
    );
    expect(refreshing.sql).toHaveLength(1);
  });

  it('a refresh replaces the entry for everybody', async () => {
    const id = await cached('stale by SQL');
    await one.em().execute('update tag set weight = 7 where id = ?', [id]);
    const get = (em: EntityManager) => em.getRepository(Tag).getOrCreate({ name: 'stale by SQL' });
    expect((await other.watch(get)).result[0].weight).toBe(1);
    const em = other.em();
    const [known] = await get(em);
    await em.getRepository(Tag).getOrCreate({ name: 'stale by SQL' }, {}, { refresh: true });
    expect(known.weight).toBe(7);
    expect(await one.watch(get)).toMatchObject({ result: [{ weight: 7 }, false], sql: [] });
  });

  it('relations are populated on a hit', async () => {
    const tag = await cached('of a mail');
    const [mail] = await one.em().getRepository(Mail).getOrCreate({ email: 'populated' }, { tag });
    await one.em().getRepository(Mail).getOrCreate({ id: mail.id });
    const {
      result: [found],
      sql,
    } = await other.watch((em) => em.getRepository(Mail).getOrCreate({ id: mail.id }, {}, { populate: ['tag'] }));
    expect(found.tag).toMatchObject({ name: 'of a mail', weight: 1 });
    expect(sql).toEqual([expect.stringContaining('from "tag"')]);
    const bare = await other.watch((em) => em.getRepository(Mail).getOrCreate({ id: mail.id }));
    expect(bare.sql).toEqual([]);
  });

  it('an entity that an override returns in the place of the new one is not stored as that one', async () => {
    const target = (await one.em().getRepository(Aliased).getOrCreate({ name: 'target' }, { weight: 1 }))[0];
    const [aliased] = await one.em().getRepository(Aliased).getOrCreate({ name: 'alias' }, { weight: 2 });
    expect(aliased.id).toBe(target.id);
    const [row] = await other.em().getRepository(Aliased).getOrCreate({ name: 'alias' });
    expect(row).toMatchObject({ name: 'alias', weight: 2 });
    const [again] = await other.em().getRepository(Aliased).getOrCreate({ id: target.id });
    expect(again).toMatchObject({ name: 'target', weight: 1 });
  });

  describe('eviction', () => {
    it.each<[string, (name: string, id: number) => Promise<void>]>([
      [
        'an entity',
        async (name) => {
          const em = one.em();
          const [tag] = await em.getRepository(Tag).getOrCreate({ name });
          await em.getRepository(Tag).evict(tag);
        },
      ],
      ['a lookup', (name) => one.em().getRepository(Tag).evict({ name })],
      ['a primary key', (_, id) => one.em().getRepository(Tag).evict({ id })],
      ['everything', () => one.em().getRepository(Tag).evictAll()],
      ['a lookup, by the service', (name) => one.plus.evict(Tag, { name })],
      ['a primary key, by the service', (_, id) => one.plus.evict(Tag, id)],
      ['everything of a class, by the service', () => one.plus.evictAll(Tag)],
      ['everything, by the service', () => one.plus.evictAll()],
    ])('of %s hides what SQL has changed, or deleted, or renamed', async (_, evict) => {
      const names = ['changed', 'deleted', 'renamed'].map((name) => `${name} ${Math.random()}`) as [
        string,
        string,
        string,
      ];
      const ids = await Promise.all(names.map(cached));
      await one.em().execute('update tag set weight = 5 where name = ?', [names[0]]);
      await one.em().execute('delete from tag where name = ?', [names[1]]);
      await one.em().execute('update tag set name = ? where name = ?', [`${names[2]}!`, names[2]]);
      for (const [index, name] of names.entries()) await evict(name, ids[index]!);
      const [changed, deleted, renamed] = await other
        .em()
        .getRepository(Tag)
        .getOrCreateMany(
          names.map((name) => ({ name })),
          { weight: 9 },
        );
      expect(changed![0].weight).toBe(5);
      expect(deleted![1]).toBe(true);
      expect(renamed![1]).toBe(true);
      const [moved] = await other
        .em()
        .getRepository(Tag)
        .getOrCreate({ name: `${names[2]}!` });
      expect(moved.id).toBe(ids[2]);
    });
  });
});
