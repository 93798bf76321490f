import {
  EntityCaseNamingStrategy,
  helper,
  Utils,
  wrap,
  type EntityManager,
  type EntityName,
} from '@mikro-orm/postgresql';
import { PlusRepo } from '../../src/index.js';
import { metaOf } from '../../src/orm/entities.js';
import { startCluster, storeKinds, type Cluster, type Service } from './support/cluster.js';
import * as matrix from './support/matrix.js';

type Data = Record<string, unknown>;

/** The repository as a table of cases sees it, whatever the entity. */
interface Repository {
  getOrCreate(where: Data, defaults?: Data): Promise<[Data, boolean]>;
}

const uuid = '0b0f6c3e-8f0e-4a5b-9d36-5b7e0a7c1d42';
const at = new Date('2024-02-29T12:34:56.789Z');
const place = { city: 'Oslo', since: at, people: 9_007_199_254_740_993n };

/** A new row of an entity; `name` is added. */
const cases: [label: string, entity: EntityName, data: (em: EntityManager) => Data, through?: EntityName][] = [
  ['a composite primary key', matrix.Composite, () => ({ left: 1, right: "it's" })],
  ['a uuid primary key', matrix.UuidPk, () => ({ id: uuid })],
  ['a uuid primary key in capitals', matrix.UuidPk, () => ({ id: uuid.toUpperCase().replace('0B0F', 'AAAA') })],
  ['a bigint primary key', matrix.BigPk, () => ({ id: 9_007_199_254_740_993n, text: '9007199254740995' })],
  ['a bytea primary key', matrix.BytesPk, () => ({ id: Buffer.from([0, 1, 255]) })],
  ['a custom-type primary key', matrix.CustomPk, () => ({ id: 'id-77' })],
  ['every scalar null', matrix.Scalars, () => ({})],
  ['dates', matrix.Scalars, () => ({ at, exact: at, local: at, day: '2024-02-29', time: '23:59:59' })],
  ['an interval', matrix.Scalars, () => ({ span: '1 year 2 mons 3 days 04:05:06.789' })],
  ['numbers', matrix.Scalars, () => ({ price: '12.50', amount: 12.5, ratio: 0.1, small: 1.5, flag: false })],
  ['bigints', matrix.Scalars, () => ({ big: -9_223_372_036_854_775_808n, bigText: '42', bigNumber: 42 })],
  ['a json object', matrix.Scalars, () => ({ data: { a: [1, { b: null }], c: 'd', __proto__x: 1 } })],
  ['a json array', matrix.Scalars, () => ({ data: [1, 'two', null, { three: 3 }] })],
  ['a json string', matrix.Scalars, () => ({ data: 'plain "text"' })],
  ['a json number', matrix.Scalars, () => ({ data: 1.5 })],
  ['a custom type', matrix.Scalars, () => ({ money: new matrix.Money(1_250, 'NOK') })],
  ['a custom type converted in SQL', matrix.Scalars, () => ({ point: { x: 1.5, y: -2 } })],
  [
    'enums',
    matrix.Scalars,
    () => ({
      color: matrix.Color.RED,
      native: matrix.Color.BLUE,
      level: matrix.Level.HIGH,
      colors: [matrix.Color.BLUE, matrix.Color.RED],
    }),
  ],
  ['arrays', matrix.Scalars, () => ({ texts: ['a', 'b,"c"', ''], numbers: [3, 1, 2] })],
  ['empty arrays', matrix.Scalars, () => ({ texts: [], numbers: [], colors: [] })],
  ['bytes', matrix.Scalars, () => ({ bytes: Buffer.from([0, 127, 255]), octets: new Uint8Array([9, 8, 255]) })],
  ['lazy, hidden and renamed properties', matrix.Scalars, () => ({ essay: 'long', secret: 'shh', renamed: 'yes' })],
  ['text of every kind', matrix.Scalars, () => ({ renamed: ` \u2028 "\\' 😀 é ` })],
  ['a Date version', matrix.DateVersion, () => ({})],
  ['embeddables', matrix.Embedding, () => ({ inline: place, maybe: place, object: place, list: [place, place] })],
  [
    'embeddables that are null',
    matrix.Embedding,
    () => ({ inline: { city: 'x' }, maybe: null, object: null, list: null }),
  ],
  ['relations that are null', matrix.Relations, () => ({})],
  [
    'relations',
    matrix.Relations,
    (em) => ({
      plain: em.getReference(matrix.UuidPk, uuid),
      wrapped: em.getReference(matrix.BigPk, 9_007_199_254_740_993n),
      mapped: 9_007_199_254_740_993n,
      composite: em.getReference(matrix.Composite, [1, "it's"]),
      custom: em.getReference(matrix.CustomPk, 'id-77'),
    }),
  ],
  [
    'a primary key with a relation',
    matrix.Item,
    (em) => ({ owner: em.getReference(matrix.Relations, 1), position: 3 }),
  ],
  ['a relation as primary key', matrix.Detail, (em) => ({ custom: em.getReference(matrix.CustomPk, 'id-77') })],
  ['the root of a hierarchy', matrix.Animal, () => ({})],
  ['a child through its root', matrix.Dog, () => ({ tricks: 3, born: at }), matrix.Animal],
  ['a child through its own repository', matrix.Dog, () => ({ tricks: 4, born: at })],
  ['a child without value', matrix.Cat, () => ({}), matrix.Animal],
  ['another schema', matrix.InOtherSchema, () => ({})],
  ['a naming strategy', matrix.CamelCased, () => ({ longPropertyName: 'x', anotherDate: at })],
];

describe.each(storeKinds)('an entity from a cache over %s', (kind) => {
  let cluster: Cluster;
  let one: Service;
  let other: Service;

  beforeAll(async () => {
    cluster = await startCluster(kind, {
      entities: matrix.matrixEntities,
      orm: { namingStrategy: EntityCaseNamingStrategy },
    });
    [one, other] = cluster.services;
  });

  afterAll(() => cluster[Symbol.asyncDispose]());

  function repository(em: EntityManager, entity: EntityName): Repository {
    return new PlusRepo(em, entity) as never;
  }

  it.each(cases)('with %s is what the database gives', async (label, entity, data, through = entity) => {
    const name = `${label} ${Utils.className(entity)}`;
    const em = one.em();
    em.create(entity, { ...data(em), name, weight: 1 });
    await em.flush();

    await repository(one.em(), through).getOrCreate({ name });
    const hit = await other.watch(async (fork) => {
      const [cached] = await repository(fork, through).getOrCreate({ name });
      return { fork, cached };
    });
    expect(hit.sql).toEqual([]);
    const { fork, cached } = hit.result;
    const plain = await other.em().findOneOrFail<Data>(through, { name });

    expect(Object.getPrototypeOf(cached)).toBe(Object.getPrototypeOf(plain));
    expect(wrap(cached).isInitialized()).toBe(true);
    expect(wrap(cached).isManaged()).toBe(true);
    expectSameValues(cached, plain);
    expect(JSON.stringify(cached)).toBe(JSON.stringify(plain));

    other.statements.take();
    await fork.flush();
    expect(other.statements.take()).toEqual([]);
    await expect(fork.findOne(through, helper(cached).getPrimaryKey() as never)).resolves.toBe(cached);
    expect(other.statements.take()).toEqual([]);

    cached['weight'] = 5;
    await fork.flush();
    const update = other.statements.take().filter((statement) => statement.startsWith('update'));
    expect(update).toHaveLength(1);
    expect(update[0]).toMatch(/ set "weight" = 5(, "(revision|changedAt)" = [^=]+)? where /);
    const [changed] = await repository(one.em(), through).getOrCreate({ name });
    expect(changed['weight']).toBe(5);
    expectSameValues(changed, await one.em().findOneOrFail<Data>(through, { name }));
  });

  it('is found by its primary key, too', async () => {
    for (const [entity, key, where] of [
      [matrix.UuidPk, { id: uuid }, { name: 'a uuid primary key UuidPk' }],
      [matrix.Composite, { left: 1, right: "it's" }, { name: 'a composite primary key Composite' }],
      [matrix.CustomPk, { id: 'id-77' }, { name: 'a custom-type primary key CustomPk' }],
      [matrix.BigPk, { id: 9_007_199_254_740_993n }, { name: 'a bigint primary key BigPk' }],
      [matrix.Item, { owner: 1, position: 3 }, { name: 'a primary key with a relation Item' }],
      [matrix.Detail, { custom: 'id-77' }, { name: 'a relation as primary key Detail' }],
    ] as [EntityName, Data, Data][]) {
      await repository(one.em(), entity).getOrCreate(where);
      const hit = await other.watch((em) => repository(em, entity).getOrCreate(key));
      expect(hit.sql).toEqual([]);
      expect(hit.result[0]).toMatchObject(where);
    }
  });

  it('is found and evicted whichever way its uuid is written', async () => {
    const written = [uuid.replace('0b0f', 'bbbb').toUpperCase(), `{${uuid.replace('0b0f', 'bbbb')}}`];
    for (const [index, id] of written.entries()) {
      const name = 'one uuid, written in several ways';
      await repository(one.em(), matrix.UuidPk).getOrCreate({ name }, { id: written[0], weight: 1 });
      const hit = await other.watch((em) => repository(em, matrix.UuidPk).getOrCreate({ name }));
      expect(hit.sql).toEqual([]);
      const em = one.em();
      em.assign(em.getReference(matrix.UuidPk, id), { weight: 10 + index });
      await em.flush();
      const [changed] = await repository(other.em(), matrix.UuidPk).getOrCreate({ name });
      expect(changed['weight']).toBe(10 + index);
    }
  });

  it('is never cached when its primary key has several texts for one value, or its row is not all of it', async () => {
    const values: [EntityName, Data][] = [
      [matrix.DecimalPk, { id: '1.50', weight: 1 }],
      [matrix.Person, { weight: 1 }],
    ];
    for (const [entity, data] of values) {
      const name = Utils.className(entity);
      for (let round = 0; round < 3; round++) {
        const { sql } = await one.watch((em) => repository(em, entity).getOrCreate({ name }, data));
        expect(sql.length).toBeGreaterThan(0);
      }
      expect(one.plus.statistics(entity)).toMatchObject({ fills: 0, storeHits: 0 });
    }
  });

  it('is not shared between two requests', async () => {
    const name = 'a json object Scalars';
    await repository(one.em(), matrix.Scalars).getOrCreate({ name });
    const [first] = await repository(one.em(), matrix.Scalars).getOrCreate({ name });
    (first['data'] as { a: unknown[] }).a.push('changed by one request');
    const [second] = await repository(one.em(), matrix.Scalars).getOrCreate({ name });
    expect((second['data'] as { a: unknown[] }).a).toHaveLength(2);
  });
});

/** Every property, of the same class. */
function expectSameValues(cached: Data, plain: Data): void {
  for (const prop of metaOf(plain).props) {
    const [left, right] = [cached[prop.name], plain[prop.name]];
    if (Utils.isCollection(right)) continue;
    if (Utils.isEntity(right) && !prop.embeddable) {
      expect(helper(left as object).getPrimaryKeys()).toStrictEqual(helper(right).getPrimaryKeys());
      expect(helper(left as object).isInitialized()).toBe(helper(right).isInitialized());
      continue;
    }
    if (prop.ref && right) {
      expect(helper((left as { unwrap(): object }).unwrap()).getPrimaryKeys()).toStrictEqual(
        helper((right as { unwrap(): object }).unwrap()).getPrimaryKeys(),
      );
      continue;
    }
    expect({ [prop.name]: left }).toStrictEqual({ [prop.name]: right });
  }
}
