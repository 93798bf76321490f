import { defineEntity, p, type EntityManager } from '@mikro-orm/postgresql';
import { cacheRegion, withPlusRepo } from '../../src/index.js';
import { rawClient, testRedisUrl } from '../harness/servers.js';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import { Redis } from 'ioredis';

const name = p.string().unique();

/** The filter has a parameter, and is on unless asked otherwise. */
const OfTenant = withPlusRepo(
  defineEntity({
    name: 'OfTenant',
    properties: { id: p.integer().primary(), name, tenant: p.integer() },
    filters: {
      tenant: { name: 'tenant', cond: (args: { id: number }) => ({ tenant: args.id }), default: true },
    },
  }),
);

/** Its filter is defined for all entities, in the configuration. */
const Deletable = withPlusRepo(
  defineEntity({
    name: 'Deletable',
    properties: { id: p.integer().primary(), name, deleted: p.boolean().default(false) },
  }),
);

/** The filter is that of the relation's target. */
const Child = withPlusRepo(
  defineEntity({
    name: 'Child',
    properties: { id: p.integer().primary(), name, owner: () => p.manyToOne(OfTenant) },
  }),
);

const Guarded = withPlusRepo(
  defineEntity({ name: 'Guarded', properties: { id: p.integer().primary(), name, tenant: p.integer() } }),
);

const Anywhere = withPlusRepo(
  defineEntity({ name: 'Anywhere', schema: '*', properties: { id: p.integer().primary(), name, note: p.string() } }),
);

const Secretive = cacheRegion(
  withPlusRepo(
    defineEntity({
      name: 'Secretive',
      properties: {
        id: p.integer().primary(),
        name,
        password: p.string().unique(),
        weight: p.integer().default(0),
        profile: () => p.embedded(Profile),
      },
    }),
  ),
  { exclude: ['password', 'profile'] },
);

/** Nothing but plain columns. */
const Account = cacheRegion(
  withPlusRepo(
    defineEntity({ name: 'Account', properties: { id: p.integer().primary(), name, password: p.string() } }),
  ),
  { exclude: ['password'] },
);

const Profile = defineEntity({
  embeddable: true,
  name: 'Profile',
  properties: { phone: p.string(), email: p.string().nullable() },
});

const filters = { undeleted: { name: 'undeleted', cond: { deleted: false }, entity: ['Deletable'], default: true } };

/** This file does nothing but try to get at what a query would not have given. */
describe.each(storeKinds)('a cache over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;

  beforeAll(async () => {
    cluster = await startCluster(kind, {
      entities: [OfTenant, Deletable, Child, Guarded, Anywhere, Secretive, Account, Profile],
      orm: { filters: filters },
    });
    [one, other] = cluster.services;
  });

  afterAll(() => cluster[Symbol.asyncDispose]());

  const forTenant = (service: Service, id: number): EntityManager => {
    const em = service.em();
    em.setFilterParams('tenant', { id });
    return em;
  };

  /** What a lookup gives that must not find the row; creating it instead collides with it. */
  const attempt = async (work: Promise<[object, boolean]>): Promise<unknown> =>
    work.then(
      ([entity]) => entity,
      (error: Error) => error.constructor.name,
    );

  it('gives no row of another tenant, whether by name or by primary key, in a batch or in a transaction', async () => {
    const unfiltered = { filters: false } as const;
    const seen = one.em().getRepository(OfTenant);
    const [{ id }] = await seen.getOrCreate({ name: 'of 1' }, { tenant: 1 }, unfiltered);
    await one.em().getRepository(OfTenant).getOrCreate({ name: 'of 1' }, {}, unfiltered);
    await one.em().getRepository(OfTenant).getOrCreate({ id }, {}, unfiltered);
    expect((await other.watch((em) => em.getRepository(OfTenant).getOrCreate({ id }, {}, unfiltered))).sql).toEqual([]);

    for (const service of [one, other]) {
      const own = await forTenant(service, 1).getRepository(OfTenant).getOrCreate({ name: 'of 1' });
      expect(own[0].id).toBe(id);
      const repository = () => forTenant(service, 2).getRepository(OfTenant);
      const refused = 'UniqueConstraintViolationException';
      expect(await attempt(repository().getOrCreate({ name: 'of 1' }, { tenant: 2 }))).toBe(refused);
      expect(await attempt(repository().getOrCreate({ id }, { name: 'of 1', tenant: 2 }))).toBe(refused);
      const batch = repository().getOrCreateMany([{ name: 'of 1' }], { tenant: 2 });
      expect(await attempt(batch.then(([first]) => first!))).toBe(refused);
      const nested = forTenant(service, 2).transactional((em) =>
        em.getRepository(OfTenant).getOrCreate({ id }, { name: 'of 1', tenant: 2 }),
      );
      expect(await attempt(nested)).toBe(refused);
      await expect(repository().get({ name: 'of 1' })).rejects.toThrow(/tenant|duplicate/);
      // without the parameter nobody knows what the tenant may see
      await expect(service.em().getRepository(OfTenant).getOrCreate({ name: 'of 1' })).rejects.toThrow('No arguments');
    }
  });

  it('gives no row whose relation belongs to another tenant', async () => {
    const [parent] = await forTenant(one, 1).getRepository(OfTenant).getOrCreate({ name: 'parent' }, { tenant: 1 });
    const own = () => forTenant(one, 1).getRepository(Child);
    const [child] = await own().getOrCreate({ name: 'child' }, { owner: parent.id });
    await own().getOrCreate({ name: 'child' }, {}, { filters: false });
    await own().getOrCreate({ name: 'child' }, {}, { filters: false });
    for (const where of [{ name: 'child' }, { id: child.id }]) {
      const found = attempt(
        forTenant(other, 2).getRepository(Child).getOrCreate(where, { name: 'child', owner: parent.id }),
      );
      expect(await found).toBe('UniqueConstraintViolationException');
    }
  });

  it('gives no row that a filter of the configuration hides, and shows it to those who switch the filter off', async () => {
    const [row] = await one.em().getRepository(Deletable).getOrCreate({ name: 'gone' });
    const em = one.em();
    (await em.findOneOrFail(Deletable, row.id)).deleted = true;
    await em.flush();
    const unfiltered = { filters: { undeleted: false } } as const;
    for (let round = 0; round < 2; round++) {
      const [found] = await other.em().getRepository(Deletable).getOrCreate({ name: 'gone' }, {}, unfiltered);
      expect(found).toMatchObject({ id: row.id, deleted: true });
      const hidden = other.em().getRepository(Deletable).getOrCreate({ name: 'gone' });
      expect(await attempt(hidden)).toBe('UniqueConstraintViolationException');
    }
  });

  it('obeys a filter that was added to the EntityManager', async () => {
    const [row] = await one.em().getRepository(Guarded).getOrCreate({ name: 'added filter' }, { tenant: 1 });
    const em = other.em();
    em.addFilter({ name: 'mine', cond: { tenant: 2 }, entity: 'Guarded' } as never);
    const hidden = em.getRepository(Guarded).getOrCreate({ id: row.id }, { name: 'added filter', tenant: 2 });
    expect(await attempt(hidden)).toBe('UniqueConstraintViolationException');
  });

  it('knows nothing of what row-level security shows, and stores nothing that was seen through it', async () => {
    const role = `reader_${kind}_${process.pid}`;
    await one.em().execute(`
      create role ${role}; grant all on guarded to ${role}; grant usage on sequence guarded_id_seq to ${role};
      alter table guarded enable row level security;
      create policy own on guarded to ${role} using (tenant = current_setting('app.tenant', true)::int)`);
    try {
      const asTenant = (service: Service, tenant: number): EntityManager => {
        const em = service.em();
        em.setSessionContext({ role, variables: { 'app.tenant': String(tenant) } });
        return em;
      };
      const [row] = await one.em().getRepository(Guarded).getOrCreate({ name: 'secret' }, { tenant: 1 });
      await one.em().getRepository(Guarded).getOrCreate({ name: 'secret' });
      const seen = await asTenant(other, 1).getRepository(Guarded).getOrCreate({ name: 'secret' });
      expect(seen[0].id).toBe(row.id);
      const hidden = await attempt(
        asTenant(other, 2).getRepository(Guarded).getOrCreate({ name: 'secret' }, { tenant: 2 }),
      );
      expect(hidden).toBe('UniqueConstraintViolationException');

      const [own] = await asTenant(one, 3).getRepository(Guarded).updateOrCreate({ name: 'own' }, { tenant: 3 });
      await asTenant(one, 3).getRepository(Guarded).getOrCreate({ id: own.id });
      one.store.takeCalls();
      const { sql } = await other.watch((em) => em.getRepository(Guarded).getOrCreate({ name: 'own' }));
      expect(sql).toHaveLength(1);
    } finally {
      const client = await rawClient(cluster.url);
      await client.query(
        `alter table guarded disable row level security; drop policy own on guarded; drop owned by ${role}; drop role ${role}`,
      );
      await client.end();
    }
  });

  it('keeps schemas apart, also for changes', async () => {
    const schemas = ['north', 'south'];
    for (const schema of schemas) {
      await one.em().execute(`
        create schema ${schema};
        create table ${schema}.anywhere (id serial primary key, name text unique, note text not null)`);
    }
    const ids: number[] = [];
    for (const schema of schemas) {
      const [row, created] = await one
        .em()
        .getRepository(Anywhere)
        .getOrCreate({ name: 'x' }, { note: schema }, { schema });
      expect(created).toBe(true);
      ids.push(row.id);
    }
    expect(ids).toEqual([1, 1]);
    for (const schema of schemas) {
      const byOption = await other.watch((em) => em.getRepository(Anywhere).getOrCreate({ name: 'x' }, {}, { schema }));
      expect(byOption.result[0].note).toBe(schema);
      const byKey = await other.watch((em) => em.getRepository(Anywhere).getOrCreate({ id: 1 }, {}, { schema }));
      expect(byKey.result[0].note).toBe(schema);
      const em = other.orm.em.fork({ schema });
      expect((await em.getRepository(Anywhere).getOrCreate({ name: 'x' }))[0].note).toBe(schema);
      expect([byOption.sql, byKey.sql]).toEqual([[], []]);
    }
    const em = other.orm.em.fork({ schema: 'south' });
    (await em.findOneOrFail(Anywhere, 1)).note = 'changed';
    await em.flush();
    const noteIn = async (schema: string) =>
      one.watch((fork) => fork.getRepository(Anywhere).getOrCreate({ name: 'x' }, {}, { schema }));
    expect((await noteIn('south')).result[0].note).toBe('changed');
    expect(await noteIn('north')).toMatchObject({ result: [{ note: 'north' }, false], sql: [] });
    const loaded = (await noteIn('north')).result[0];
    await one.em().execute(`update north.anywhere set note = 'evicted'`);
    await one.em().getRepository(Anywhere).evict(loaded);
    expect((await noteIn('north')).result[0].note).toBe('evicted');
  });

  it('leaves an excluded property to the next query for the entity, which loads it', async () => {
    await one.em().getRepository(Account).getOrCreate({ name: 'account' }, { password: 'correct horse' });
    const em = other.em();
    const [account] = await em.getRepository(Account).getOrCreate({ name: 'account' });
    expect(account.password).toBeUndefined();
    expect(await em.findOneOrFail(Account, account.id)).toBe(account);
    expect(account.password).toBe('correct horse');
  });

  it('never holds an excluded property, which stays unloaded and is not lost', async () => {
    const data = { password: 'correct horse', profile: { phone: '555-0100' }, weight: 1 };
    await one.em().getRepository(Secretive).getOrCreate({ name: 'user' }, data);
    const hit = await other.watch(async (em) => ({
      em,
      user: (await em.getRepository(Secretive).getOrCreate({ name: 'user' }))[0],
    }));
    expect(hit.sql).toEqual([]);
    const { em, user } = hit.result;
    expect(user.password).toBeUndefined();
    expect(user.profile?.phone).toBeUndefined();
    expect(JSON.stringify(user)).not.toMatch(/horse|555/);
    await em.flush();
    user.weight = 2;
    await em.flush();
    expect(other.statements.take().filter((sql) => sql.startsWith('update'))).toEqual([
      expect.stringContaining('set "weight" = 2 where'),
    ]);
    const stored = await one.em().findOneOrFail(Secretive, user.id);
    expect(stored).toMatchObject({ password: 'correct horse', profile: { phone: '555-0100' }, weight: 2 });

    user.password = 'battery staple';
    await em.flush();
    expect((await one.em().findOneOrFail(Secretive, user.id)).password).toBe('battery staple');
    await other.em().getRepository(Secretive).updateOrCreate({ name: 'user' }, { password: 'stapled', weight: 3 });
    const byPassword = await one.watch((fork) => fork.getRepository(Secretive).getOrCreate({ password: 'stapled' }));
    expect(byPassword.sql).toHaveLength(1);
    expect(byPassword.result[0].password).toBe('stapled');
    expect(
      (await one.watch((fork) => fork.getRepository(Secretive).getOrCreate({ password: 'stapled' }))).sql,
    ).toHaveLength(1);
    if (kind === 'redis') {
      const redis = new Redis(testRedisUrl());
      const keys = await redis.keys(`${cluster.prefix}*`);
      expect(keys.length).toBeGreaterThan(3);
      const bytes = (await Promise.all(keys.map((key) => redis.get(key)))).join('\n');
      expect(bytes).toContain('user');
      for (const text of [...keys, bytes]) expect(text).not.toMatch(/horse|staple|555-0100/);
      redis.disconnect();
    }
  });
});
