import { helper, Reference, Utils, type EntityName } from '@mikro-orm/core';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import {
  Animal,
  BigintPk,
  ByParent,
  Cat,
  Code,
  Color,
  CompositePk,
  Custom,
  Detail,
  Dog,
  Embedding,
  Keys,
  Level,
  matrixEntities,
  NullsEqual,
  Odd,
  Parent,
  Partial,
  Passport,
  Person,
  UuidOnCreate,
  UuidPk,
  Values,
} from './matrix-entities.js';

type Em = TestOrm['orm']['em'];
type Data = Record<string, unknown>;

/** The repository as the table of cases sees it, whatever the entity. */
interface Repository {
  getOrCreate(where: Data, defaults?: Data, options?: object): Promise<[object, boolean]>;
  getOrCreateMany(
    wheres: Data[],
    defaults?: Data | ((where: Data, index: number) => Data),
  ): Promise<[object, boolean][]>;
  updateOrCreate(where: Data, values: Data, options?: object): Promise<[object, boolean]>;
  updateOrCreateMany(items: { where: Data; values: Data }[]): Promise<[object, boolean][]>;
}

/** Four lookups of one entity, and what a new row of each takes beside. */
interface Case {
  name: string;
  entity: EntityName;
  where: (index: number, em: Em) => Data;
  more?: (index: number, em: Em) => Data;
}

const day = (index: number): string => `2024-02-0${index + 1}`;

const cases: Case[] = [
  { name: 'a composite primary key', entity: CompositePk, where: (index) => ({ left: index, right: 'x' }) },
  { name: 'a uuid made by the database', entity: UuidPk, where: (index) => ({ name: `u${index}` }) },
  {
    name: 'a uuid primary key as lookup',
    entity: UuidPk,
    where: (index) => ({ id: `00000000-0000-4000-8000-00000000000${index}` }),
    more: (index) => ({ name: `by id ${index}` }),
  },
  { name: 'a uuid from onCreate', entity: UuidOnCreate, where: (index) => ({ name: `u${index}` }) },
  {
    name: 'a bigint primary key',
    entity: BigintPk,
    where: (index) => ({ id: 9_007_199_254_740_993n + BigInt(index) }),
    more: (index) => ({ big: 100n + BigInt(index), text: `10${index}` }),
  },
  {
    name: 'a bigint key',
    entity: BigintPk,
    where: (index) => ({ big: 9_007_199_254_740_993n + BigInt(index) }),
    more: (index) => ({ text: `${index}` }),
  },
  {
    name: 'a bigint key as text',
    entity: BigintPk,
    where: (index) => ({ text: `900719925474099${index}` }),
    more: (index) => ({ big: BigInt(index) }),
  },
  {
    name: 'a relation and a name, by primary key',
    entity: ByParent,
    where: (index) => ({ parent: (index % 2) + 1, name: `pk ${index}` }),
  },
  {
    name: 'a relation and a name, by entity',
    entity: ByParent,
    where: (index, em) => ({ parent: em.getReference(Parent, (index % 2) + 1), name: `entity ${index}` }),
  },
  {
    name: 'a relation and a name, by reference',
    entity: ByParent,
    where: (index, em) => ({ parent: Reference.create(em.getReference(Parent, 1)), name: `ref ${index}` }),
  },
  {
    name: 'a relation with a composite key, by entity',
    entity: ByParent,
    where: (index, em) => ({ other: em.getReference(CompositePk, [99, 'c'] as never), name: `composite ${index}` }),
    more: () => ({ parent: 1 }),
  },
  {
    name: 'a relation with a composite key, by key',
    entity: ByParent,
    where: (index) => ({ other: [99, 'c'], name: `composite key ${index}` }),
    more: () => ({ parent: 1 }),
  },
  {
    name: 'a relation mapped to its key',
    entity: ByParent,
    where: (index) => ({ mapped: 2, name: `mapped ${index}` }),
    more: () => ({ parent: 1 }),
  },
  { name: 'a relation as primary key', entity: Detail, where: (index) => ({ parent: index + 1 }) },
  {
    name: 'part of an embeddable',
    entity: Embedding,
    where: (index) => ({ name: 'n', address: { city: `city ${index}` } }),
  },
  {
    name: 'part of an embeddable, with other embeddables beside it',
    entity: Embedding,
    where: (index) => ({ name: 'full', address: { city: `city ${index}`, zip: 'z' } }),
    more: () => ({
      maybe: { city: 'm', since: new Date('2024-01-01T00:00:00Z') },
      object: { city: 'o', since: new Date('2024-01-02T00:00:00Z') },
      list: [{ city: 'l', zip: null }, { city: 'k' }],
    }),
  },
  {
    name: 'a custom type',
    entity: Custom,
    where: (index) => ({ code: new Code('a', index) }),
    more: (index) => ({ loud: `code ${index}` }),
  },
  {
    name: 'a type converted by the database',
    entity: Custom,
    where: (index) => ({ loud: `loud ${index}` }),
    more: (index) => ({ code: new Code('b', index) }),
  },
  { name: 'a partial unique index', entity: Partial, where: (index) => ({ email: `e${index}` }) },
  {
    name: 'nulls that are not distinct',
    entity: NullsEqual,
    where: (index) => ({ scope: index % 2 === 0 ? null : 's', name: `n${index}` }),
  },
  { name: 'columns with odd names', entity: Odd, where: (index) => ({ name: `what? "${index}" :x $1` }) },
  { name: 'a date', entity: Keys, where: (index) => ({ day: day(index) }) },
  { name: 'a datetime', entity: Keys, where: (index) => ({ at: new Date(`${day(index)}T01:02:03.456Z`) }) },
  { name: 'a decimal', entity: Keys, where: (index) => ({ price: `1${index}.50` }) },
  { name: 'a decimal in another notation', entity: Keys, where: (index) => ({ price: `2${index}.5` }) },
  { name: 'a double', entity: Keys, where: (index) => ({ ratio: 0.1 + index / 3 }) },
  { name: 'a boolean and a double', entity: Keys, where: (index) => ({ flag: index % 2 === 0, ratio: 100 + index }) },
  {
    name: 'an enum',
    entity: Keys,
    where: (index) => ({ color: [Color.RED, Color.BLUE, Color.GREEN, null][index] ?? Color.RED }),
  },
  {
    name: 'a native enum',
    entity: Keys,
    where: (index) => ({ native: [Color.RED, Color.BLUE, Color.GREEN][index] ?? Color.RED }),
  },
  { name: 'bytes', entity: Keys, where: (index) => ({ bytes: Buffer.from([0, 255, index]) }) },
  { name: 'a uuid', entity: Keys, where: (index) => ({ uuid: `11111111-0000-4000-8000-00000000000${index}` }) },
  {
    name: 'values of every type',
    entity: Values,
    where: (index) => ({ name: `v${index}` }),
    more: (index) => ({
      color: Color.BLUE,
      native: Color.GREEN,
      level: [Level.LOW, Level.MIDDLE, Level.HIGH, Level.HIGH][index],
      colors: [Color.RED, Color.BLUE],
      data: [{ a: [1, null, 'x'] }, 'text', [1, 2], { 'quo"te?': true }][index],
      texts: ['a', 'b,c', '{"d"}', `it's`],
      numbers: [1, -2],
      bytes: Buffer.from([0, 1, 255]),
      day: '2024-02-29',
      at: new Date('2024-02-29T12:00:00Z'),
      exact: new Date('2024-02-29T12:00:00.123Z'),
      time: '12:34:56',
      price: '1234.5',
      ratio: 1 / 3,
      big: 2n ** 62n,
      flag: true,
      code: new Code('z', 1),
      loud: 'quiet',
      essay: 'long',
      hidden: 'secret',
    }),
  },
  { name: 'values that are all null', entity: Values, where: (index) => ({ name: `null ${index}` }) },
  { name: 'the root of a single-table hierarchy', entity: Animal, where: (index) => ({ name: `animal ${index}` }) },
  { name: 'a child of a single-table hierarchy', entity: Dog, where: (index) => ({ name: `dog ${index}` }) },
  {
    name: 'a child of a single-table hierarchy with its own property',
    entity: Cat,
    where: (index) => ({ name: `cat ${index}` }),
    more: (index) => ({ lives: index }),
  },
  { name: 'the inverse side of a 1:1', entity: Person, where: (index) => ({ name: `person ${index}` }) },
  { name: 'the owning side of a 1:1', entity: Passport, where: (index) => ({ person: 1000 + index }) },
];

let db: TestOrm;

beforeAll(async () => {
  db = await createTestOrm({ entities: matrixEntities });
  const em = db.orm.em.fork();
  for (const id of [1, 2, 3, 4]) em.create(Parent, { id, name: `parent ${id}` });
  em.create(CompositePk, { left: 99, right: 'c' });
  for (const id of [1000, 1001, 1002, 1003]) em.create(Person, { id, name: `holder ${id}` });
  await em.flush();
});

/** Everything that an entity shows: values as they are, relations by class, key and state. */
function show(entity: object): Data {
  const { __meta: meta } = helper(entity);
  const shown: Data = { '': entity.constructor.name };
  for (const prop of meta.props) {
    const value: unknown = Reference.unwrapReference((entity as Data)[prop.name] as object);
    if (['1:m', 'm:n'].includes(prop.kind) || prop.embedded) continue;
    shown[prop.name] = Utils.isEntity<object>(value)
      ? [value.constructor.name, helper(value).getPrimaryKey(), Reference.isReference((entity as Data)[prop.name])]
      : value;
  }
  return shown;
}

const names = cases.map((testCase): [string, Case] => [testCase.name, testCase]);

describe.each(names)('with %s', (_name, { entity, where, more = () => ({}) }) => {
  const open = () => {
    const em = db.orm.em.fork();
    return { em, repository: em.getRepository(entity) as unknown as Repository };
  };

  async function expectClean(em: Em): Promise<void> {
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  }

  async function expectAsLoaded(em: Em, found: object): Promise<void> {
    const fresh = await db.orm.em.fork().findOneOrFail(entity, helper(found).getPrimaryKey());
    expect(show(found)).toEqual(show(fresh));
    expect(JSON.stringify(found)).toBe(JSON.stringify(fresh));
    await expectClean(em);
  }

  it('getOrCreate creates, finds and refreshes the row as a plain load returns it', async () => {
    const { em, repository } = open();
    const [created, isNew] = await repository.getOrCreate(where(0, em), more(0, em));
    expect(isNew).toBe(true);
    await expectAsLoaded(em, created);
    await expect(repository.getOrCreate(where(0, em), more(0, em))).resolves.toEqual([created, false]);

    const later = open();
    const [found, isNewNow] = await later.repository.getOrCreate(where(0, later.em), more(0, later.em));
    expect(isNewNow).toBe(false);
    expect(found).not.toBe(created);
    await expectAsLoaded(later.em, found);

    const [refreshed] = await later.repository.getOrCreate(where(0, later.em), {}, { refresh: true });
    expect(refreshed).toBe(found);
    await expectAsLoaded(later.em, refreshed);
  });

  it('getOrCreateMany creates the missing of three rows, and finds all of them', async () => {
    const { em, repository } = open();
    const wheres = (ofEm: Em) => [0, 1, 2].map((index) => where(index, ofEm));
    const results = await repository.getOrCreateMany(wheres(em), (_where, index) => more(index, em));
    expect(results.map(([, created]) => created)).toEqual([false, true, true]);
    for (const [found] of results) await expectAsLoaded(em, found);

    const later = open();
    const again = await later.repository.getOrCreateMany(wheres(later.em));
    expect(again.map(([, created]) => created)).toEqual([false, false, false]);
    for (const [found] of again) await expectAsLoaded(later.em, found);
  });

  it('updateOrCreate changes the row, and creates it when it is gone', async () => {
    for (const [created, weight] of [
      [false, 7],
      [false, 8],
      [true, 9],
    ] as const) {
      const { em, repository } = open();
      if (created) await db.orm.em.fork().nativeDelete(entity, where(0, db.orm.em.fork()));
      const [updated, isNew] = await repository.updateOrCreate(where(0, em), { ...more(0, em), weight });
      expect(isNew).toBe(created);
      expect(updated).toMatchObject({ weight });
      await expectAsLoaded(em, updated);
    }
  });

  it('updateOrCreateMany changes two rows and creates a third', async () => {
    const { em, repository } = open();
    await db.orm.em.fork().nativeDelete(entity, where(2, db.orm.em.fork()));
    const items = [0, 1, 2].map((index) => ({
      where: where(index, em),
      values: { ...more(index, em), weight: 20 + index },
    }));
    const results = await repository.updateOrCreateMany(items);
    expect(results.map(([, created]) => created)).toEqual([false, false, true]);
    for (const [index, [updated]] of results.entries()) {
      expect(updated).toMatchObject({ weight: 20 + index });
      await expectAsLoaded(em, updated);
    }
  });
});
