import { defineEntity, p, Type, type EntityManager } from '@mikro-orm/postgresql';
import { setTimeout as delay } from 'node:timers/promises';
import { cacheRegion, CachedRepo, PlusSubscriber, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { testPrefix, testRedisUrl } from '../harness/servers.js';

class Money {
  constructor(readonly cents: number) {}
}

class MoneyType extends Type<Money, number> {
  override convertToDatabaseValue(value: Money): number {
    return value instanceof Money ? value.cents : value;
  }

  override convertToJSValue(value: number): Money {
    return new Money(value);
  }

  override getColumnType(): string {
    return 'int';
  }
}

const Place = defineEntity({
  name: 'Place',
  embeddable: true,
  properties: { city: p.string(), since: p.datetime().nullable() },
});

const Owner = defineEntity({ name: 'Owner', properties: { id: p.integer().primary(), name: p.string().unique() } });

/** Of values that entities of one row can share, dates included. */
const Flat = cacheRegion(
  withRepo(
    defineEntity({
      name: 'Flat',
      properties: {
        id: p.integer().primary(),
        name: p.string().unique(),
        at: p.datetime(),
        price: p.type(MoneyType),
        big: p.bigint(),
        place: () => p.embedded(Place),
        version: p.integer().version(),
      },
    }),
    CachedRepo,
  ),
  { store: 'redis', strategy: 'nonstrict-read-write', nearCache: {}, maxStaleness: 20_000 },
);

/** With a value that each entity needs for itself, and a relation. */
const Deep = cacheRegion(
  withRepo(
    defineEntity({
      name: 'Deep',
      properties: {
        id: p.integer().primary(),
        name: p.string().unique(),
        extra: p.json<{ list: number[] }>(),
        owner: () => p.manyToOne(Owner),
      },
    }),
    CachedRepo,
  ),
  { store: 'redis', strategy: 'nonstrict-read-write', nearCache: {}, maxStaleness: 20_000 },
);

let db: TestOrm;
let plus: PlusSubscriber;
let owner: number;

beforeAll(async () => {
  plus = new PlusSubscriber({
    stores: { default: testRedisUrl(), redis: testRedisUrl() },
    prefix: testPrefix(),
    timeout: 20_000,
  });
  db = await createTestOrm({ entities: [Flat, Deep, Owner, Place], subscribers: [plus] });
  owner = await db.orm.em.fork().insert(Owner, { name: 'o' });
});

afterAll(() => db?.close());

const flat = (em: EntityManager, name: string) =>
  em
    .getRepository(Flat)
    .getOrCreate(
      { name },
      { at: new Date(5), price: new Money(7), big: 9n, place: { city: 'Rome', since: new Date(3) } },
    );
const deep = (em: EntityManager, name: string) =>
  em.getRepository(Deep).getOrCreate({ name }, { extra: { list: [1] }, owner });

/** An entity that the near cache answered with, on an EntityManager of its own. */
async function nearby<T>(get: (em: EntityManager, name: string) => Promise<[T, boolean]>, name: string) {
  for (;;) {
    const before = plus.statistics().nearCacheHits;
    const em = db.orm.em.fork();
    const [entity] = await get(em, name);
    if (plus.statistics().nearCacheHits > before) return { em, entity };
    await delay(10);
  }
}

describe('entities of one copy in the near cache', () => {
  it('are clean, each of them', async () => {
    for (let round = 0; round < 4; round += 1) {
      const one = await nearby(flat, 'clean');
      const other = await nearby(deep, 'clean');
      expect(one.entity).toMatchObject({
        at: new Date(5),
        price: new Money(7),
        big: 9n,
        place: { city: 'Rome', since: new Date(3) },
      });
      expect(other.entity.extra).toEqual({ list: [1] });
      db.statements.take();
      await one.em.flush();
      await other.em.flush();
      expect(db.statements.take()).toEqual([]);
    }
  });

  it('have nothing in common that one of them could change', async () => {
    await nearby(flat, 'apart');
    await nearby(deep, 'apart');
    const one = await nearby(flat, 'apart');
    one.entity.at.setTime(1_000);
    one.entity.place.since!.setTime(1_000);
    one.entity.place.city = 'Bonn';
    const other = await nearby(deep, 'apart');
    other.entity.extra.list.push(2);
    const next = await nearby(flat, 'apart');
    const last = await nearby(deep, 'apart');
    expect(next.entity).toMatchObject({ at: new Date(5), place: { city: 'Rome', since: new Date(3) } });
    expect(last.entity.extra).toEqual({ list: [1] });
    db.statements.take();
    await next.em.flush();
    await last.em.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('are flushed with what was changed, and with nothing else', async () => {
    await nearby(flat, 'changed');
    const { em, entity } = await nearby(flat, 'changed');
    entity.at.setTime(60_000);
    entity.price = new Money(8);
    db.statements.take();
    await em.flush();
    const updates = db.statements.take().filter((statement) => statement.startsWith('update "flat"'));
    expect(updates).toEqual([
      expect.stringMatching(/^update "flat" set "at" = .*, "price" = 8, "version" = .* where /),
    ]);
    const [again] = await flat(db.orm.em.fork(), 'changed');
    expect(again).toMatchObject({ at: new Date(60_000), price: new Money(8), big: 9n });
  });
});
