import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, NonAtomicRepo, withRepo, type CreationContext, type Values } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { givesTakenRows, kinds } from './statements.js';

const properties = { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) };

class OverridingRepo<E extends object> extends GetOrCreateRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    return super.createEntity(data, context);
  }
}

class OverridingNonAtomicRepo<E extends object> extends NonAtomicRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    return super.createEntity(data, context);
  }
}

const Tag = withRepo(defineEntity({ name: 'Tag', properties }), GetOrCreateRepo);
const Joined = withRepo(defineEntity({ name: 'Joined', properties }), NonAtomicRepo);
const Parent = withRepo(defineEntity({ name: 'Parent', properties }), OverridingRepo);
const JoinedParent = withRepo(defineEntity({ name: 'JoinedParent', properties }), OverridingNonAtomicRepo);

let db: TestOrm;
let rival: Client;
/** What follows a refused insert: PostgreSQL 19 gives the row of the other writer with it. */
let afterRefusal: string[];
let onTaken: (name: string) => string;
let found: string;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag, Joined, Parent, JoinedParent] });
  rival = await rivalClient(db.url);
  const givesTaken = await givesTakenRows(db.orm.em);
  afterRefusal = givesTaken ? [] : ['select'];
  onTaken = (name) => (givesTaken ? `select where "t0"."name" = '${name}'` : 'nothing');
  found = givesTaken ? `, old."id" is not null as "__plus_f"` : '';
});

let count = 0;
const newName = (): string => `name ${(count += 1)}`;

/** Defaults whose evaluation, between the select and the insert, lets another connection be faster. */
function losing(table: string, name: string): { weight: () => Promise<number> } {
  return {
    weight: async () => {
      await rival.query(`insert into "${table}" (name, weight) values ($1, 77)`, [name]);
      return 1;
    },
  };
}

const classes: [name: string, entity: typeof Tag, table: string][] = [
  ['an atomic class', Tag, 'tag'],
  ['a non-atomic class', Joined as unknown as typeof Tag, 'joined'],
];

describe.each(classes)('the statements of %s', (_, entity, table) => {
  const repository = () => db.orm.em.fork().getRepository(entity);

  it('are a select and an insert for a new row', async () => {
    const name = newName();
    const [tag, created] = await repository().getOrCreate({ name }, { weight: 5 });
    expect({ ...tag, created }).toMatchObject({ name, weight: 5, created: true });
    expect(db.statements.take()).toEqual([
      `select "t0"."id", "t0"."name", "t0"."weight", 1 as "__plus_o" from "${table}" as "t0" where "t0"."name" = '${name}' limit 2`,
      `insert into "${table}" as "t0" ("name", "weight") values ('${name}', 5) on conflict ("name") do ${onTaken(name)} ` +
        `returning "t0"."id", "t0"."name", "t0"."weight", 1 as "__plus_o"${found}`,
    ]);
  });

  it('are one select for an existing row', async () => {
    const name = newName();
    await rival.query(`insert into "${table}" (name) values ($1)`, [name]);
    const [, created] = await repository().getOrCreate({ name }, { weight: 5 });
    expect(created).toBe(false);
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it('are select and insert for a lost race, and one more select before PostgreSQL 19', async () => {
    const name = newName();
    const [tag, created] = await repository().getOrCreate({ name }, losing(table, name));
    expect({ ...tag, created }).toMatchObject({ name, weight: 77, created: false });
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', ...afterRefusal]);
  });

  it('are none for a row in the identity map', async () => {
    const repo = repository();
    const name = newName();
    const [tag] = await repo.getOrCreate({ name });
    const [other] = await repo.getOrCreate({ name: newName() });
    db.statements.take();
    await expect(repo.getOrCreate({ name })).resolves.toEqual([tag, false]);
    await expect(repo.getOrCreate({ id: tag.id })).resolves.toEqual([tag, false]);
    await expect(repo.getOrCreateMany([{ name }, { name: other.name }])).resolves.toEqual([
      [tag, false],
      [other, false],
    ]);
    expect(db.statements.take()).toEqual([]);
  });

  it('are none for a row that MikroORM itself brought into the identity map', async () => {
    const name = newName();
    await rival.query(`insert into "${table}" (name) values ($1)`, [name]);
    const em = db.orm.em.fork();
    const tag = await em.findOneOrFail(entity, { name });
    const made = em.create(entity, { name: newName() });
    await em.flush();
    db.statements.take();
    await expect(em.getRepository(entity).getOrCreate({ name })).resolves.toEqual([tag, false]);
    await expect(em.getRepository(entity).getOrCreate({ name: made.name })).resolves.toEqual([made, false]);
    expect(db.statements.take()).toEqual([]);
  });

  it('are the same inside a transaction of the caller, with nothing of their own around them', async () => {
    const name = newName();
    await db.orm.em.fork().transactional(async (em) => {
      await em.getRepository(entity).getOrCreate({ name });
      await em.getRepository(entity).getOrCreate({ name });
      await em.getRepository(entity).updateOrCreate({ name }, { weight: 3 });
    });
    expect(kinds(db.statements.take())).toEqual(['begin', 'select', 'insert', 'upsert', 'commit']);
  });

  it.each([1, 10, 1000])(
    'are a select and an insert for a batch of %i new rows, and one select afterwards',
    async (size) => {
      const wheres = Array.from({ length: size }, () => ({ name: newName() }));
      const results = await repository().getOrCreateMany(wheres, (_where, index) => ({ weight: index }));
      expect(results.map(([{ name, weight }, created]) => [name, weight, created])).toEqual(
        wheres.map(({ name }, index) => [name, index, true]),
      );
      expect(kinds(db.statements.take())).toEqual(['select', 'insert']);

      const again = await repository().getOrCreateMany(wheres.toReversed());
      expect(again.map(([{ name }, created]) => [name, created])).toEqual(
        wheres.toReversed().map(({ name }) => [name, false]),
      );
      expect(kinds(db.statements.take())).toEqual(['select']);
    },
  );

  it.each([1, 10, 1000])(
    'are at most select, insert and select for a batch of %i, of which another writer had one first',
    async (size) => {
      const wheres = Array.from({ length: size }, () => ({ name: newName() }));
      const last = wheres.at(-1)!.name;
      const results = await repository().getOrCreateMany(wheres, (where) =>
        where.name === last ? losing(table, last) : {},
      );
      expect(results.map(([{ name }, created]) => [name, created])).toEqual(
        wheres.map(({ name }) => [name, name !== last]),
      );
      expect(kinds(db.statements.take())).toEqual(['select', 'insert', ...(size === 1 ? afterRefusal : ['select'])]);
    },
  );

  it('are a select for each 10,000 lookups of a batch, whose rows become one entity each', async () => {
    const prefix = newName();
    const sql = `insert into "${table}" (name) select $1 || i from generate_series(0, 10499) i where i % 7 > 0`;
    await rival.query(sql, [`${prefix}-`]);
    const wheres = Array.from({ length: 10_500 }, (_value, index) => ({ name: `${prefix}-${index}` }));
    const repo = repository();
    const results = await repo.getOrCreateMany(wheres);
    expect(kinds(db.statements.take())).toEqual(['select', 'select', 'insert']);
    expect(results.map(([{ name }]) => name)).toEqual(wheres.map(({ name }) => name));
    expect(results.map(([, created]) => created)).toEqual(wheres.map((_where, index) => index % 7 === 0));
    expect(new Set(results.map(([{ id }]) => id)).size).toBe(wheres.length);

    // of lookups by other properties that lead to the same rows, which the identity map has by then
    const others = [...results.map(([{ id }]) => ({ id })).toReversed(), { name: newName() }];
    const again = await repo.getOrCreateMany(others);
    expect(again.slice(0, -1).every(([tag], index) => tag === results.at(-1 - index)![0])).toBe(true);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
  });

  it('do not grow with the property sets of a batch beyond one select for each', async () => {
    const wheres = Array.from({ length: 20 }, (_value, index) =>
      index % 2 === 0 ? { name: newName() } : { name: newName(), weight: index },
    );
    await repository().getOrCreateMany(wheres);
    expect(kinds(db.statements.take())).toEqual(['select', 'select', 'insert']);
  });

  it.each([
    ['values', {}],
    ['createDefaults', { createDefaults: { weight: 9 } }],
  ])('are one for an update with %s, of a new row and of an existing one', async (_name, options) => {
    const name = newName();
    const expected = 'createDefaults' in options ? 9 : 1;
    const [tag, created] = await repository().updateOrCreate({ name }, { weight: 1 }, options);
    expect([tag.weight, created]).toEqual([expected, true]);
    expect(kinds(db.statements.take())).toEqual(['upsert']);

    const [same, createdAgain] = await repository().updateOrCreate({ name }, { weight: 2 }, options);
    expect([same.id, same.weight, createdAgain]).toEqual([tag.id, 2, false]);
    expect(kinds(db.statements.take())).toEqual(['upsert']);
  });

  it('are two for an update whose new row takes a function, and one when the row exists', async () => {
    const name = newName();
    const options = { createDefaults: { weight: () => 9 } };
    await expect(repository().updateOrCreate({ name }, { weight: 1 }, options)).resolves.toMatchObject([
      { weight: 9 },
      true,
    ]);
    expect(kinds(db.statements.take())).toEqual(['upsert', 'insert']);
    await expect(repository().updateOrCreate({ name }, { weight: 2 }, options)).resolves.toMatchObject([
      { weight: 2 },
      false,
    ]);
    expect(kinds(db.statements.take())).toEqual(['upsert']);
  });

  it.each([1, 10, 1000])(
    'are one for a batch of %i updates, of new rows, of existing ones, and of both',
    async (size) => {
      const items = Array.from({ length: size }, (_value, index) => ({
        where: { name: newName() },
        values: { weight: index },
      }));
      const results = await repository().updateOrCreateMany(items);
      expect(results.map(([{ weight }, created]) => [weight, created])).toEqual(
        items.map((_item, index) => [index, true]),
      );
      expect(kinds(db.statements.take())).toEqual(['upsert']);

      const more = [
        ...items.map(({ where }) => ({ where, values: { weight: -1 } })),
        { where: { name: newName() }, values: { weight: -2 } },
      ];
      const again = await repository().updateOrCreateMany(more);
      expect(again.map(([{ weight }, created]) => [weight, created])).toEqual([
        ...items.map(() => [-1, false]),
        [-2, true],
      ]);
      expect(kinds(db.statements.take())).toEqual(['upsert']);
    },
  );

  it('are none for empty batches', async () => {
    await expect(repository().getOrCreateMany([])).resolves.toEqual([]);
    await expect(repository().updateOrCreateMany([])).resolves.toEqual([]);
    expect(db.statements.take()).toEqual([]);
  });
});

describe('the statements of a class that overrides createEntity', () => {
  it('are bracketed by a transaction in an atomic class, for a new row only', async () => {
    const name = newName();
    const repository = () => db.orm.em.fork().getRepository(Parent);
    await repository().getOrCreate({ name });
    expect(kinds(db.statements.take())).toEqual(['select', 'begin', 'insert', 'commit']);
    await repository().getOrCreate({ name });
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it('are bracketed by a savepoint in an atomic class inside a transaction', async () => {
    await db.orm.em.fork().transactional((em) => em.getRepository(Parent).getOrCreate({ name: newName() }));
    const statements = kinds(db.statements.take());
    expect(statements).toEqual(['begin', 'select', 'savepoint', 'insert', 'release', 'commit']);
  });

  it('undo their transaction for a lost race', async () => {
    const name = newName();
    const [, created] = await db.orm.em.fork().getRepository(Parent).getOrCreate({ name }, losing('parent', name));
    expect(created).toBe(false);
    expect(kinds(db.statements.take())).toEqual(['select', 'begin', 'insert', 'rollback', 'select']);
  });

  it('are never bracketed in a non-atomic class', async () => {
    const name = newName();
    await db.orm.em.fork().getRepository(JoinedParent).getOrCreate({ name });
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
    await db.orm.em
      .fork()
      .getRepository(JoinedParent)
      .getOrCreateMany([{ name: newName() }, { name: newName() }]);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'insert']);
    await db.orm.em.fork().transactional((em) => em.getRepository(JoinedParent).getOrCreate({ name: newName() }));
    expect(kinds(db.statements.take())).toEqual(['begin', 'select', 'insert', 'commit']);
    await db.orm.em.fork().getRepository(JoinedParent).updateOrCreate({ name: newName() }, { weight: 1 });
    expect(kinds(db.statements.take())).toEqual(['upsert', 'insert']);
  });
});
