import {
  defineEntity,
  EntityCaseNamingStrategy,
  p,
  UnderscoreNamingStrategy,
  type NamingStrategy,
} from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, LookupError, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import {
  Animal,
  Cat,
  CompositePk,
  Dog,
  Embedding,
  NullsEqual,
  Parent,
  ByParent,
  Partial,
  Passport,
  Person,
  Values,
} from './matrix-entities.js';
import { rivalClient } from './rival.js';
import { kinds } from './statements.js';

const properties = { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) };
const Anywhere = withRepo(defineEntity({ name: 'Anywhere', schema: '*', properties }), GetOrCreateRepo);
const Fixed = withRepo(defineEntity({ name: 'Fixed', schema: 'fixed', properties }), GetOrCreateRepo);

let db: TestOrm;
let rival: Client;

beforeAll(async () => {
  db = await createTestOrm({
    entities: [
      Animal,
      Dog,
      Cat,
      CompositePk,
      Embedding,
      NullsEqual,
      Parent,
      ByParent,
      Partial,
      Passport,
      Person,
      Values,
      Anywhere,
      Fixed,
    ],
  });
  rival = await rivalClient(db.url);
  for (const schema of ['one', 'two']) {
    await rival.query(`create schema ${schema}`);
    await rival.query(
      `create table ${schema}.anywhere (id serial primary key, name text unique, weight int default 0)`,
    );
  }
});
beforeEach(() => db.statements.take());

describe('single-table inheritance', () => {
  it('finds a row of a subclass through the root, as an instance of the subclass', async () => {
    const [dog] = await db.orm.em.fork().getRepository(Dog).getOrCreate({ name: 'rex' }, { tricks: 3 });
    expect(dog.kind).toBe('dog');
    const em = db.orm.em.fork();
    const [animal, created] = await em.getRepository(Animal).getOrCreate({ name: 'rex' });
    expect(created).toBe(false);
    expect(animal.constructor.name).toBe('Dog');
    expect(animal).toMatchObject({ kind: 'dog', tricks: 3 });
    await expect(em.getRepository(Dog).getOrCreate({ name: 'rex' })).resolves.toEqual([animal, false]);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'select']);
  });

  it('does not take a row of another class for its own: the name is taken', async () => {
    await db.orm.em.fork().getRepository(Dog).getOrCreate({ name: 'tom' });
    const em = db.orm.em.fork();
    const refused = { name: 'UniqueConstraintViolationException' };
    await expect(em.getRepository(Cat).getOrCreate({ name: 'tom' })).rejects.toMatchObject(refused);
    await expect(em.getRepository(Cat).updateOrCreate({ name: 'tom' }, { weight: 1 })).rejects.toMatchObject(refused);
    await em.findOneOrFail(Animal, { name: 'tom' });
    await expect(em.getRepository(Cat).getOrCreate({ name: 'tom' })).rejects.toMatchObject(refused);
    const { rows } = await rival.query(`select kind, weight from animal where name = 'tom'`);
    expect(rows).toEqual([{ kind: 'dog', weight: 0 }]);
  });

  it('updates rows through the root and the subclass', async () => {
    await db.orm.em.fork().getRepository(Dog).updateOrCreate({ name: 'ace' }, { tricks: 2 });
    const [animal] = await db.orm.em.fork().getRepository(Animal).updateOrCreate({ name: 'ace' }, { weight: 4 });
    expect(animal).toMatchObject({ kind: 'dog', tricks: 2, weight: 4 });
    const [dog, created] = await db.orm.em.fork().getRepository(Dog).updateOrCreate({ name: 'ace' }, { tricks: 5 });
    expect([dog.tricks, dog.weight, created]).toEqual([5, 4, false]);
  });
});

describe('schemas', () => {
  it('keep rows of one entity apart, by the fork and by the option', async () => {
    const one = db.orm.em.fork({ schema: 'one' });
    const [inOne, created] = await one.getRepository(Anywhere).getOrCreate({ name: 'x' }, { weight: 1 });
    expect([inOne.weight, created]).toEqual([1, true]);
    const [inTwo, createdToo] = await one
      .getRepository(Anywhere)
      .getOrCreate({ name: 'x' }, { weight: 2 }, { schema: 'two' });
    expect([inTwo.weight, createdToo]).toEqual([2, true]);
    expect(inTwo).not.toBe(inOne);
    db.statements.take();
    await expect(one.getRepository(Anywhere).getOrCreate({ name: 'x' })).resolves.toEqual([inOne, false]);
    await expect(one.getRepository(Anywhere).getOrCreate({ name: 'x' }, {}, { schema: 'two' })).resolves.toEqual([
      inTwo,
      false,
    ]);
    expect(db.statements.take()).toEqual([]);
    const [updated] = await one
      .getRepository(Anywhere)
      .updateOrCreate({ name: 'x' }, { weight: 20 }, { schema: 'two' });
    expect([updated, inTwo.weight, inOne.weight]).toEqual([inTwo, 20, 1]);
    inOne.weight = 10;
    inTwo.weight = 21;
    await one.flush();
    const weights = await rival.query('select a.weight as one, b.weight as two from one.anywhere a, two.anywhere b');
    expect(weights.rows).toEqual([{ one: 10, two: 21 }]);
    const many = await db.orm.em
      .fork({ schema: 'two' })
      .getRepository(Anywhere)
      .getOrCreateMany([{ name: 'x' }, { name: 'y' }]);
    expect(many.map(([{ weight }, isNew]) => [weight, isNew])).toEqual([
      [21, false],
      [0, true],
    ]);
    expect((await rival.query('select 1 from one.anywhere')).rowCount).toBe(1);
  });

  it('of the entity itself are used', async () => {
    const em = db.orm.em.fork();
    const [fixed, created] = await em.getRepository(Fixed).getOrCreate({ name: 'x' });
    expect(created).toBe(true);
    await expect(db.orm.em.fork().findOneOrFail(Fixed, { name: 'x' })).resolves.toMatchObject({ id: fixed.id });
    await expect(
      db.orm.em.fork().getRepository(Fixed).updateOrCreate({ name: 'x' }, { weight: 1 }),
    ).resolves.toMatchObject([{ weight: 1 }, false]);
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });
});

describe('a partial unique index', () => {
  it('speaks of the row inside it: rows outside are neither found nor in the way', async () => {
    await rival.query(`insert into "partial" (email, deleted_at, weight) values ('e', now(), 1), ('e', now(), 2)`);
    const [row, created] = await db.orm.em.fork().getRepository(Partial).getOrCreate({ email: 'e' });
    expect([row.deletedAt, created]).toEqual([null, true]);
    await expect(db.orm.em.fork().getRepository(Partial).getOrCreate({ email: 'e' })).resolves.toMatchObject([
      { id: row.id },
      false,
    ]);
    await db.orm.em.fork().getRepository(Partial).updateOrCreate({ email: 'e' }, { weight: 9 });
    const { rows } = await rival.query(`select weight from "partial" where email = 'e' order by weight`);
    expect(rows).toEqual([{ weight: 1 }, { weight: 2 }, { weight: 9 }]);
  });

  it('decides a race', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, () => db.orm.em.fork().getRepository(Partial).getOrCreate({ email: 'race' })),
    );
    expect(results.filter(([, created]) => created)).toHaveLength(1);
  });

  it('decides a race of updates', async () => {
    await Promise.all(
      Array.from({ length: 8 }, () =>
        db.orm.em.fork().transactional(async (em) => {
          const [row] = await em.getRepository(Partial).updateOrCreate({ email: 'count' }, {});
          row.weight += 1;
        }),
      ),
    );
    expect((await rival.query(`select weight from "partial" where email = 'count'`)).rows).toEqual([{ weight: 8 }]);
  });
});

describe('nulls that are not distinct', () => {
  it('decide a race for a key with null', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, () =>
        db.orm.em.fork().getRepository(NullsEqual).getOrCreate({ scope: null, name: 'race' }),
      ),
    );
    expect(results.filter(([, created]) => created)).toHaveLength(1);
    const updates = await Promise.all(
      Array.from({ length: 8 }, (_value, weight) =>
        db.orm.em.fork().getRepository(NullsEqual).updateOrCreate({ scope: null, name: 'update' }, { weight }),
      ),
    );
    expect(updates.filter(([, created]) => created)).toHaveLength(1);
    expect((await rival.query('select 1 from nulls_equal')).rowCount).toBe(2);
  });
});

describe('an embeddable in where', () => {
  it('names its columns: given ones only from a plain object, and null ones too', async () => {
    const repository = () => db.orm.em.fork().getRepository(Embedding);
    await repository().getOrCreate({ name: 'n', address: { city: 'c', zip: 'z' } });
    await expect(repository().getOrCreate({ name: 'n', address: { city: 'c' } })).resolves.toMatchObject([{}, false]);
    await expect(repository().getOrCreate({ name: 'n', address: { city: 'c', zip: null } })).rejects.toThrow(
      /duplicate key/,
    );
    await expect(
      repository().getOrCreate({ name: 'n', address: { city: 'c', zip: 'z' }, maybe: null }),
    ).resolves.toMatchObject([{}, false]);
    await expect(repository().getOrCreate({ name: 'n', object: { city: 'c' } })).rejects.toThrow(LookupError);
  });

  it('takes a part of an embeddable among the values, and leaves the rest', async () => {
    const repository = () => db.orm.em.fork().getRepository(Embedding);
    await repository().getOrCreate({ name: 'part', address: { city: 'c', zip: 'z' } });
    const where = { name: 'part', address: { city: 'c' } } as never;
    const [changed] = await repository().updateOrCreate(where, { address: { zip: 'new' } });
    expect({ ...changed.address }).toMatchObject({ city: 'c', zip: 'new' });
    const [same] = await repository().updateOrCreate(where, { maybe: null });
    expect({ ...same.address }).toMatchObject({ city: 'c', zip: 'new' });
  });
});

describe('what a plain load leaves out or adds', () => {
  it('is left out and added: a lazy property stays unloaded, and is neither lost nor overwritten', async () => {
    await db.orm.em.fork().getRepository(Values).getOrCreate({ name: 'lazy' }, { essay: 'long', weight: 2 });
    const em = db.orm.em.fork();
    const [values] = await em.getRepository(Values).getOrCreate({ name: 'lazy' });
    expect([values.essay, values.trebled, values.doubled]).toEqual([undefined, 6, 4]);
    values.weight = 3;
    await em.flush();
    await em.populate(values, ['essay']);
    expect(values.essay).toBe('long');
    const [updated] = await db.orm.em.fork().getRepository(Values).updateOrCreate({ name: 'lazy' }, { weight: 5 });
    expect([updated.trebled, updated.doubled]).toEqual([15, 10]);
    const { rows } = await rival.query(`select essay, weight from values where name = 'lazy'`);
    expect(rows).toEqual([{ essay: 'long', weight: 5 }]);
  });

  it('includes the other side of a 1:1', async () => {
    const em = db.orm.em.fork();
    const [person] = await em.getRepository(Person).getOrCreate({ name: 'p' });
    const [passport] = await em.getRepository(Passport).getOrCreate({ person });
    const [found] = await db.orm.em.fork().getRepository(Person).getOrCreate({ name: 'p' });
    expect(found.passport).toMatchObject({ id: passport.id });
    const later = db.orm.em.fork();
    const [updated] = await later.getRepository(Person).updateOrCreate({ name: 'p' }, { weight: 3 });
    expect(updated.passport).toMatchObject({ id: passport.id });
    db.statements.take();
    await later.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('refuses relations that are not in the database yet, in where and defaults', async () => {
    const em = db.orm.em.fork();
    const parent = em.create(Parent, { name: 'new' }, { persist: false });
    const repository = em.getRepository(ByParent);
    await expect(repository.getOrCreate({ name: 'x', parent })).rejects.toThrow(LookupError);
    await expect(repository.getOrCreate({ id: 77 }, { name: 'x', parent })).rejects.toThrow(
      /isn't in the database yet/,
    );
    await expect(
      repository.getOrCreate({ id: 77 }, { name: 'x', parent: { name: 'inline' } as never }),
    ).rejects.toThrow(LookupError);
  });
});

describe.each<[string, new () => NamingStrategy]>([
  ['entity case', EntityCaseNamingStrategy],
  ['underscores', UnderscoreNamingStrategy],
])('a naming strategy with %s', (_name, namingStrategy) => {
  const Owner = defineEntity({
    name: 'CaseOwner',
    properties: { ownerId: p.integer().primary(), fullName: p.string() },
  });
  const CaseItem = withRepo(
    defineEntity({
      name: 'CaseItem',
      properties: {
        itemId: p.integer().primary(),
        itemOwner: () => p.manyToOne(Owner),
        itemName: p.string(),
        itemCount: p.integer().default(0),
      },
      uniques: [{ properties: ['itemOwner', 'itemName'] }],
    }),
    GetOrCreateRepo,
  );

  it('names the columns', async () => {
    await using own = await createTestOrm({ entities: [Owner, CaseItem], namingStrategy });
    const em = own.orm.em.fork();
    const itemOwner = em.create(Owner, { ownerId: 1, fullName: 'o' });
    await em.flush();
    const repository = em.getRepository(CaseItem);
    const [item, created] = await repository.getOrCreate({ itemOwner, itemName: 'n' });
    expect(created).toBe(true);
    await repository.updateOrCreate({ itemOwner: 1, itemName: 'n' }, { itemCount: 4 });
    expect(item.itemCount).toBe(4);
    const many = await own.orm.em
      .fork()
      .getRepository(CaseItem)
      .getOrCreateMany([
        { itemOwner: 1, itemName: 'n' },
        { itemOwner: 1, itemName: 'm' },
      ]);
    expect(many.map(([{ itemCount }, isNew]) => [itemCount, isNew])).toEqual([
      [4, false],
      [0, true],
    ]);
    own.statements.take();
    await em.flush();
    expect(own.statements.take()).toEqual([]);
  });
});
