import { EntityRepository } from '@mikro-orm/postgresql';
import { defineEntity, p, type EntitySchema } from '@mikro-orm/core';
import {
  AlwaysCachedRepo,
  AlwaysGetOrCreate,
  AlwaysRepo,
  CachedGetOrCreate,
  CachedRepo,
  GetOrCreateRepo,
  NonAtomicAlwaysRepo,
  NonAtomicCachedRepo,
  NonAtomicGetOrCreate,
  NonAtomicRepo,
  PlusRepo,
  PlusSubscriber,
  type CreationContext,
} from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';

/** What the scenarios ask of a repository, whichever mixins it has. */
interface Api extends EntityRepository<Item> {
  getOrCreate(where: object, defaults?: object): Promise<[Item, boolean]>;
  getOrCreateMany(wheres: object[], defaults?: object): Promise<[Item, boolean][]>;
  updateOrCreate(where: object, values: object): Promise<[Item, boolean]>;
  get?(where: object): Promise<Item>;
  evictAll?(): Promise<void>;
}

interface Item {
  id: number;
  name: string;
  bar: number;
}

type Base = new (...args: never[]) => EntityRepository<Item>;
type Mixin = (base: never) => unknown;

/** A class of the application's own between MikroORM's and the mixins. */
class OwnRepository<E extends object> extends EntityRepository<E> {
  greet(): string {
    return `hello from ${this.getEntityName()}`;
  }
}

const mixins: Record<string, Mixin> = {
  cached: CachedGetOrCreate,
  always: AlwaysGetOrCreate,
  nonAtomic: NonAtomicGetOrCreate,
};

function orders(names: string[]): string[][] {
  if (names.length <= 1) return [names];
  return names.flatMap((name) => orders(names.filter((other) => other !== name)).map((rest) => [name, ...rest]));
}

/** Every order of every non-empty set of mixins, on MikroORM's class and on one of the application's. */
const combinations = [
  ['cached'],
  ['always'],
  ['nonAtomic'],
  ['cached', 'always'],
  ['cached', 'nonAtomic'],
  ['always', 'nonAtomic'],
  ['cached', 'always', 'nonAtomic'],
].flatMap(orders);

const readyMade: [name: string, repository: unknown, traits: string[]][] = [
  ['GetOrCreateRepo', GetOrCreateRepo, []],
  ['CachedRepo', CachedRepo, ['cached']],
  ['AlwaysRepo', AlwaysRepo, ['always']],
  ['NonAtomicRepo', NonAtomicRepo, ['nonAtomic']],
  ['NonAtomicAlwaysRepo', NonAtomicAlwaysRepo, ['nonAtomic', 'always']],
  ['AlwaysCachedRepo', AlwaysCachedRepo, ['always', 'cached']],
  ['NonAtomicCachedRepo', NonAtomicCachedRepo, ['nonAtomic', 'cached']],
  ['PlusRepo', PlusRepo, ['cached', 'always', 'nonAtomic']],
];

function build(order: readonly string[], base: unknown): Base {
  return order.reduce((inner, name) => mixins[name]!(inner as never), base) as Base;
}

const cases: [name: string, repository: Base, traits: string[]][] = [
  ...readyMade.map(([name, repository, traits]): [string, Base, string[]] => [name, repository as Base, traits]),
  ...combinations.flatMap((order): [string, Base, string[]][] => [
    [`${order.join(' in ')} in EntityRepository`, build(order, EntityRepository), order],
    [`${order.join(' in ')} in a class of the application`, build(order, OwnRepository), order],
  ]),
];

/** One entity per case, each with its own table and repository class. */
const entities = cases.map(([, repository], index) => {
  class Overriding extends repository {
    protected async createEntity(data: { children?: number }, context: CreationContext): Promise<Item> {
      const { children = 0, ...rest } = data;
      const parent = super['createEntity' as never] as unknown as (
        data: object,
        context: CreationContext,
      ) => Promise<Item>;
      const created = await parent.call(this, rest, context);
      if (children < 0) throw new Error('the override fails');
      return created;
    }
  }
  const define = (name: string, cls: unknown): EntitySchema<Item> => {
    const schema = defineEntity({
      name,
      properties: { id: p.integer().primary(), name: p.string().unique(), bar: p.integer().default(0) },
    });
    schema.setCustomRepository(() => cls as never);
    return schema;
  };
  return { plain: define(`Item${index}`, repository), overriding: define(`Other${index}`, Overriding) };
});

let db: TestOrm;

beforeAll(async () => {
  const all = entities.flatMap(({ plain, overriding }) => [plain, overriding]);
  db = await createTestOrm({ entities: all, subscribers: [new PlusSubscriber()] });
});

afterAll(() => db.close());

describe.each(cases.map(([name, , traits], index) => ({ name, traits, index })))('$name', ({ name, traits, index }) => {
  const { plain, overriding } = entities[index]!;
  const repo = (entity = plain, em = db.orm.em.fork()): Api => em.getRepository(entity) as unknown as Api;
  const cached = traits.includes('cached');
  const always = traits.includes('always');
  const nonAtomic = traits.includes('nonAtomic');

  beforeEach(() => db.statements.take());

  test('creates once, and finds afterwards', async () => {
    const [created, isNew] = await repo().getOrCreate({ name: 'a' }, { bar: 1 });
    expect([created.bar, isNew]).toEqual([1, true]);
    expect(db.statements.take()).toHaveLength(2);
    const [found, isNewAgain] = await repo().getOrCreate({ name: 'a' }, { bar: 2 });
    expect([found.id, found.bar, isNewAgain]).toEqual([created.id, 1, false]);
    expect(db.statements.take()).toHaveLength(cached ? 0 : 1);
  });

  test('gets or creates many', async () => {
    const results = await repo().getOrCreateMany([{ name: 'a' }, { name: 'm1' }, { name: 'm2' }, { name: 'm1' }], {
      bar: 3,
    });
    expect(results.map(([{ name: itemName, bar }, isNew]) => [itemName, bar, isNew])).toEqual([
      ['a', 1, false],
      ['m1', 3, true],
      ['m2', 3, true],
      ['m1', 3, false],
    ]);
  });

  test('updates or creates', async () => {
    expect(await repo().updateOrCreate({ name: 'u' }, { bar: 4 })).toMatchObject([{ name: 'u', bar: 4 }, true]);
    expect(await repo().updateOrCreate({ name: 'u' }, { bar: 5 })).toMatchObject([{ name: 'u', bar: 5 }, false]);
    expect(await repo().getOrCreate({ name: 'u' })).toMatchObject([{ bar: 5 }, false]);
  });

  test(always ? 'creates what a get does not find' : 'has no get, and fails to find what is not there', async () => {
    if (always) {
      expect(await repo().get!({ name: 'g' })).toMatchObject({ name: 'g', bar: 0 });
      expect(await repo().findOneOrFail({ name: 'h' })).toMatchObject({ name: 'h' });
      await expect(repo().findOneOrFail({ name: { $like: 'nobody%' } })).rejects.toThrow('not found');
    } else {
      expect(repo().get).toBeUndefined();
      await expect(repo().findOneOrFail({ name: 'h' })).rejects.toThrow('not found');
    }
  });

  test(cached ? 'can be told to forget' : 'has nothing to forget', async () => {
    if (cached) {
      await repo().getOrCreate({ name: 'a' });
      await repo().evictAll!();
      db.statements.take();
      await repo().getOrCreate({ name: 'a' });
      expect(db.statements.take()).toHaveLength(1);
    } else {
      expect(repo().evictAll).toBeUndefined();
    }
  });

  test(
    nonAtomic ? 'opens nothing around an overridden createEntity' : 'makes an overridden createEntity one unit',
    async () => {
      const failing = repo(overriding).getOrCreate({ name: 'x' }, { children: -1 });
      await expect(failing).rejects.toThrow('the override fails');
      const sent = db.statements.take().map((statement) => statement.split(' ')[0]);
      expect(sent).toEqual(nonAtomic ? ['select', 'insert'] : ['select', 'begin', 'insert', 'rollback']);
      expect(await db.orm.em.fork().count(overriding, { name: 'x' })).toBe(nonAtomic ? 1 : 0);
    },
  );

  test(
    nonAtomic ? 'sets no savepoint in the caller’s transaction' : 'sets a savepoint in the caller’s transaction',
    async () => {
      await db.orm.em.fork().transactional(async (inner) => {
        const [item, isNew] = await repo(overriding, inner).getOrCreate({ name: 'y' });
        expect([item.name, isNew]).toEqual(['y', true]);
      });
      const savepoints = db.statements.take().filter((statement) => statement.includes('savepoint'));
      expect(savepoints).toHaveLength(nonAtomic ? 0 : 2);
      expect(await db.orm.em.fork().count(overriding, { name: 'y' })).toBe(1);
    },
  );

  test('keeps the members of the class it was put on', () => {
    const own = repo() as Api & { greet?(): string };
    expect(own.greet?.()).toBe(name.endsWith('application') ? `hello from Item${index}` : undefined);
  });
});
