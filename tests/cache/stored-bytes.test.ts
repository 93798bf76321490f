import { randomBytes } from 'node:crypto';
import { defineEntity, p } from '@mikro-orm/postgresql';
import { PlusSubscriber, RedisStore, withPlusRepo } from '../../src/index.js';
import { connectTestOrm, createTestOrm, type TestOrm } from '../harness/orm.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';
import { startCluster, storeKinds } from './support/cluster.js';
import { Tag } from './support/entities.js';

describe.each(storeKinds)('bytes in a store over %s that make no sense', (kind) => {
  it.each<[string, (value: string) => string]>([
    ['cut off', (value) => value.slice(0, -1)],
    ['empty', () => ''],
    ['random', (value) => randomBytes(value.length).toString('latin1')],
    ['huge', (value) => value + 'x'.repeat(5_000_000)],
    ['of another format', (value) => value.replace(/^1/, '2')],
    ['of another shape', (value) => value.replace(/^1 \S/, '1 _')],
    ['with another value', (value) => value.replace('"orm"', '"arm"')],
    ['code', () => '1 () => process.exit()'],
    ['a prototype', () => '{"__proto__":{"polluted":true}}'],
  ])('(%s) are a miss, counted and evicted', async (_, change) => {
    await using cluster = await startCluster(kind, { entities: [Tag] });
    const [one, other] = cluster.services;
    await one.em().getRepository(Tag).getOrCreate({ name: 'orm' }, { weight: 3 });
    one.store.tamperWith(change);
    const { result, sql } = await one.watch((em) => em.getRepository(Tag).getOrCreate({ name: 'orm' }));
    expect(result).toEqual([expect.objectContaining({ name: 'orm', weight: 3 }), false]);
    expect(sql).toHaveLength(1);
    expect(one.plus.statistics(Tag)).toMatchObject({ evictions: 1, storeHits: 0 });
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    one.store.tamperWith(undefined);
    await other.em().getRepository(Tag).getOrCreate({ name: 'orm' });
    expect((await one.watch((em) => em.getRepository(Tag).getOrCreate({ name: 'orm' }))).sql).toEqual([]);
  });
});

describe('services over one Redis', () => {
  async function service(
    entity: typeof Tag,
    options: { url?: string; prefix?: string } = {},
  ): Promise<TestOrm & { read(): Promise<{ sql: string[]; tag: object; created: boolean }> }> {
    const plus = new PlusSubscriber({
      stores: { default: testRedisUrl() },
      timeout: 30_000,
      ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
    });
    const ormOptions = { entities: [entity], subscribers: [plus] };
    const testOrm = options.url ? await connectTestOrm(options.url, ormOptions) : await createTestOrm(ormOptions);
    const read = async () => {
      testOrm.statements.take();
      const [tag, created] = await testOrm.orm.em
        .fork()
        .getRepository(entity)
        .getOrCreate({ name: 'orm' }, { weight: 1 });
      return { sql: testOrm.statements.take(), tag, created };
    };
    return {
      ...testOrm,
      read,
      [Symbol.asyncDispose]: async () => {
        await testOrm.orm.close();
        await testOrm.close();
      },
    };
  }

  it('don’t meet when their databases differ, and do when they don’t', async () => {
    await using one = await service(Tag);
    await using other = await service(Tag);
    expect((await one.read()).created).toBe(true);
    expect((await one.read()).sql).toEqual([]);
    expect((await other.read()).created).toBe(true);
    await using same = await service(Tag, { url: one.url });
    expect((await same.read()).sql).toEqual([]);
  });

  it('don’t meet when their prefixes differ', async () => {
    await using one = await service(Tag, { prefix: `${testPrefix()}a` });
    await one.read();
    await using other = await service(Tag, { url: one.url, prefix: `${testPrefix()}b` });
    expect((await other.read()).sql).toHaveLength(1);
    // nor when one prefix is the beginning of the other
    await using longer = await service(Tag, { url: one.url, prefix: `${testPrefix()}a:` });
    expect((await longer.read()).sql).toHaveLength(1);
  });

  it('don’t meet when a class of the same name has another table', async () => {
    const Elsewhere = withPlusRepo(
      defineEntity({
        name: 'Tag',
        tableName: 'label',
        properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
      }),
    ) as never as typeof Tag;
    await using one = await service(Tag, { prefix: `${testPrefix()}class` });
    await one.read();
    await one.orm.em.execute('create table label (id serial primary key, name text unique, weight int)');
    await using other = await service(Elsewhere, { url: one.url, prefix: `${testPrefix()}class` });
    const { created, tag } = await other.read();
    expect(created).toBe(true);
    expect(tag).toMatchObject({ id: 1, name: 'orm' });
    expect((await one.read()).sql).toEqual([]);
  });

  const common = { id: p.integer().primary(), name: p.string().unique() };

  it.each([
    [
      'a column was added',
      'alter table tag add column note text',
      defineEntity({
        name: 'Tag',
        properties: { ...common, weight: p.integer().default(0), note: p.string().nullable() },
      }),
    ],
    [
      'a type was changed',
      'alter table tag alter column weight type double precision',
      defineEntity({ name: 'Tag', properties: { ...common, weight: p.double().default(0) } }),
    ],
  ])('of two versions (%s) don’t read each other’s rows, but evict them', async (what, change, changed) => {
    const Next = withPlusRepo(changed as never) as never as typeof Tag;
    const prefix = `${testPrefix()}${what.replaceAll(' ', '-')}`;
    await using old = await service(Tag, { prefix });
    await old.orm.em.execute(change);
    await old.read();
    await using next = await service(Next, { url: old.url, prefix });
    const first = await next.read();
    expect(first.sql).toHaveLength(1);
    await old.read();
    await old.read();
    expect((await old.read()).sql).toEqual([]);
    await next.orm.em.fork().getRepository(Next).updateOrCreate({ name: 'orm' }, { weight: 9 });
    expect((await old.read()).tag).toMatchObject({ weight: 9 });
    await old.orm.em.fork().getRepository(Tag).updateOrCreate({ name: 'orm' }, { weight: 10 });
    expect((await next.read()).tag).toMatchObject({ weight: 10 });
  });

  it('share a connected ioredis client that was handed in, which stays open', async () => {
    const { Redis } = await import('ioredis');
    const redis = new Redis(testRedisUrl());
    await redis.ping();
    for (const store of [redis as never, new RedisStore(redis)]) {
      const plus = new PlusSubscriber({ stores: { default: store }, prefix: `${testPrefix()}handed` });
      const testOrm = await createTestOrm({ entities: [Tag], subscribers: [plus] });
      await testOrm.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'orm' });
      testOrm.statements.take();
      await testOrm.orm.em.fork().getRepository(Tag).getOrCreate({ name: 'orm' });
      expect(testOrm.statements.take()).toEqual([]);
      await plus.evictAll(Tag);
      await plus.ping();
      await testOrm.orm.close();
      await testOrm.close();
    }
    await expect(redis.ping()).resolves.toBe('PONG');
    redis.disconnect();
  });
});
