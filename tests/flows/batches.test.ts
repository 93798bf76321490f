import { UniqueConstraintViolationException } from '@mikro-orm/core';
import { defineEntity, p, raw } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo, type CreationContext, type Values } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { until } from '../harness/until.js';
import { rivalClient, untilBlocked } from './rival.js';
import { kinds } from './statements.js';

const Item = withRepo(
  defineEntity({
    name: 'Item',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      price: p.decimal().precision(10).scale(2).unique().nullable(),
      weight: p.integer().default(0),
      note: p.string().nullable(),
      label: p.string().nullable(),
      size: p.string().nullable(),
      color: p.string().nullable(),
    },
  }),
  GetOrCreateRepo,
);

/** Creates through an override, row by row. */
class OverridingRepo<E extends object> extends GetOrCreateRepo<E> {
  protected override async createEntity(data: Values<E>, context: CreationContext): Promise<E> {
    return super.createEntity(data, context);
  }
}

const Made = withRepo(
  defineEntity({ name: 'Made', properties: { id: p.integer().primary(), name: p.string().unique() } }),
  OverridingRepo,
);

const Pair = withRepo(
  defineEntity({
    name: 'Pair',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      left: p.integer().nullable(),
      right: p.integer().nullable(),
      slug: p.string().generated('(lower(name)) stored').unique().nullable(),
      weight: p.integer().default(0),
    },
    uniques: [{ properties: ['left', 'right'] }],
  }),
  GetOrCreateRepo,
);

let db: TestOrm;
let rival: Client;
let watcher: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Item, Made, Pair] });
  rival = await rivalClient(db.url);
  watcher = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate item, made, pair');
  db.statements.take();
});

const repository = () => db.orm.em.fork().getRepository(Item);
const insert = (name: string, table = 'item') => rival.query(`insert into ${table} (name) values ($1)`, [name]);

async function rows(): Promise<unknown[]> {
  return (await rival.query('select name, weight from item order by name')).rows;
}

describe('lookups of one batch that name the same row in different ways', () => {
  it('get one entity, created once, when both describe it', async () => {
    const wheres = [{ name: 'a' }, { name: 'a', note: null }];
    const results = await repository().getOrCreateMany(wheres);
    expect(results[0]![0]).toBe(results[1]![0]);
    expect(results.filter(([, created]) => created)).toHaveLength(1);
    await expect(rows()).resolves.toEqual([{ name: 'a', weight: 0 }]);
  });

  it('raise the unique violation when they contradict each other', async () => {
    const batch = repository().getOrCreateMany([
      { name: 'a', weight: 1 },
      { name: 'a', weight: 2 },
    ]);
    await expect(batch).rejects.toMatchObject({ name: 'UniqueConstraintViolationException' });
  });

  it('get one entity for two notations of one value', async () => {
    const results = await repository().getOrCreateMany([{ price: '1.5' }, { price: '1.50' }], (_where, index) => ({
      name: `n${index}`,
    }));
    expect(results[0]![0]).toBe(results[1]![0]);
    expect(results.filter(([, created]) => created)).toHaveLength(1);
  });

  it.each([
    ['a new row', false],
    ['an existing row', true],
  ])('update %s in turn', async (_row, exists) => {
    if (exists) await insert('a');
    const results = await repository().updateOrCreateMany([
      { where: { name: 'a' }, values: { weight: 5 } },
      { where: { name: 'a', note: null }, values: { weight: 6 } },
    ]);
    expect(results[0]![0]).toBe(results[1]![0]);
    expect(results.filter(([, created]) => created)).toHaveLength(exists ? 0 : 1);
    await expect(rows()).resolves.toEqual([{ name: 'a', weight: 6 }]);
  });
});

describe('a batch through unique keys of several kinds', () => {
  const pairs = () => db.orm.em.fork().getRepository(Pair);
  const told = (results: [{ name: string; weight: number }, boolean][]) =>
    results.map(([{ name, weight }, created]) => [name, weight, created]);

  it('creates and finds rows by keys of different length', async () => {
    const wheres = [{ name: 'a' }, { left: 1, right: 2 }, { name: 'b' }];
    const batch = () => pairs().getOrCreateMany(wheres, (where) => ('left' in where ? { name: 'c' } : {}));
    expect(told(await batch())).toEqual([
      ['a', 0, true],
      ['c', 0, true],
      ['b', 0, true],
    ]);
    expect(kinds(db.statements.take())).toEqual(['select', 'select', 'insert']);
    expect((await batch()).map(([, created]) => created)).toEqual([false, false, false]);
  });

  it('updates and creates rows by keys of different length', async () => {
    const items = [
      { where: { name: 'a' }, values: { weight: 1 } },
      { where: { left: 1, right: 2 }, values: { weight: 2, name: 'c' } },
    ];
    expect(told(await pairs().updateOrCreateMany(items))).toEqual([
      ['a', 1, true],
      ['c', 2, true],
    ]);
    expect((await pairs().updateOrCreateMany(items)).map(([, created]) => created)).toEqual([false, false]);
  });

  it('creates and finds rows by a generated column', async () => {
    const wheres = ['a', 'b', 'c'].map((slug) => ({ slug }));
    const batch = () => pairs().getOrCreateMany(wheres, ({ slug }) => ({ name: slug!.toUpperCase() }));
    expect(told(await batch())).toEqual(['A', 'B', 'C'].map((name) => [name, 0, true]));
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
    expect(told(await batch())).toEqual(['A', 'B', 'C'].map((name) => [name, 0, false]));
  });

  it('updates and creates rows by a generated column', async () => {
    const items = ['a', 'b', 'c'].map((slug) => ({
      where: { slug },
      values: { weight: 1 },
      createDefaults: { name: slug.toUpperCase() },
    }));
    expect(told(await pairs().updateOrCreateMany(items))).toEqual(['A', 'B', 'C'].map((name) => [name, 0, true]));
    expect(kinds(db.statements.take())).toEqual(['upsert']);
    expect(told(await pairs().updateOrCreateMany(items))).toEqual(['A', 'B', 'C'].map((name) => [name, 1, false]));
  });
});

describe('a batch of updates with values of many kinds', () => {
  /** How many queries the longest statement since the last call is made of. */
  const longest = (): number =>
    Math.max(...db.statements.take().map((sql) => sql.match(/ as (materialized )?\(/g)?.length ?? 1));

  it('takes as many queries as there are kinds, not as there are rows', async () => {
    const kindsOfValues = [{ weight: 1 }, { note: 'x' }, { weight: 2, note: 'y' }, { price: null, note: 'z' }];
    const items = Array.from({ length: 400 }, (_value, index) => ({
      where: { name: `n${index}` },
      values: kindsOfValues[index % 4]!,
    }));
    const created = await repository().updateOrCreateMany(items);
    expect(created.every(([, isNew]) => isNew)).toBe(true);
    expect(longest()).toBeLessThan(40);

    await rival.query(`delete from item where name like '%7'`);
    await rival.query('update item set weight = 50, note = $1', ['old']);
    const updated = await repository().updateOrCreateMany(items);
    expect(updated.map(([{ name, weight, note }, isNew]) => [name, weight, note, isNew])).toEqual(
      items.map(({ where: { name }, values: { weight, note } }) => {
        const isNew = name.endsWith('7');
        return [name, weight ?? (isNew ? 0 : 50), note ?? (isNew ? null : 'old'), isNew];
      }),
    );
    expect(longest()).toBeLessThan(40);
  });

  it('leaves what a row’s own values don’t name, however many kinds there are', async () => {
    const names = ['weight', 'note', 'label', 'size', 'color'] as const;
    const items = Array.from({ length: 31 }, (_value, index) => ({
      where: { name: `n${index}` },
      values: Object.fromEntries(
        names.filter((_name, bit) => (index + 1) & (1 << bit)).map((name) => [name, name === 'weight' ? 7 : '7']),
      ),
    }));
    await rival.query(
      `insert into item (name, weight, note, label, size, color) select 'n' || i, 1, '1', '1', '1', '1' from generate_series(0, 30) as i`,
    );
    const results = await repository().updateOrCreateMany(items);
    expect(longest()).toBeLessThan(40);
    const expected = items.map(({ where, values }) => ({
      ...where,
      ...Object.fromEntries(names.map((name) => [name, name in values ? '7' : '1'])),
    }));
    const found = await rival.query(
      'select name, weight::text, note, label, size, color from item order by substr(name, 2)::int',
    );
    expect(found.rows).toEqual(expected);
    expect(results.map(([item]) => ({ ...item, weight: String(item.weight) }))).toMatchObject(expected);
  });

  it('writes nothing when the key of one belongs to a row that differs', async () => {
    await rival.query(`insert into item (name, weight) values ('taken', 1), ('b', 1)`);
    const before = await rows();
    const batch = repository().updateOrCreateMany([
      { where: { name: 'a', weight: 1 }, values: { note: 'x' } },
      { where: { name: 'b', weight: 1 }, values: { note: 'x' } },
      { where: { name: 'taken', weight: 99 }, values: { note: 'x' } },
    ]);
    await expect(batch).rejects.toMatchObject({ name: 'UniqueConstraintViolationException' });
    await expect(rows()).resolves.toEqual(before);
  });

  it('has the effect of running items in turn that name one row by different keys', async () => {
    const { rows: made } = await rival.query<{ id: number }>(`insert into item (name) values ('a') returning id`);
    const results = await repository().updateOrCreateMany([
      { where: { name: 'a' }, values: { weight: 5, note: 'x' } },
      { where: { id: made[0]!.id }, values: { weight: 6, name: 'a' } },
    ]);
    expect(results[0]![0]).toBe(results[1]![0]);
    expect(results[0]![0]).toMatchObject({ name: 'a', weight: 6, note: 'x' });
    expect(results.map(([, created]) => created)).toEqual([false, false]);
  });

  it('has that effect too for two notations of one value, and with SQL or functions among the values', async () => {
    await rival.query(`insert into item (name, price) values ('a', 1.50)`);
    const prices = ['1.50', '1.5', '1.500'].map((price) => ({ price }));
    const results = await repository().updateOrCreateMany(
      prices.map((where, index) => ({ where, values: { weight: index, ...(index === 0 && { note: 'x' }) } })),
    );
    expect(new Set(results.map(([item]) => item)).size).toBe(1);
    expect(results[0]![0]).toMatchObject({ name: 'a', weight: 2, note: 'x' });
    const counted = await repository().updateOrCreateMany([
      ...prices.map((where) => ({ where, values: { weight: raw('weight + 10') } })),
      { where: { name: 'a' }, values: { label: 'y' }, createDefaults: { label: () => 'z' } },
    ]);
    expect(new Set(counted.map(([item]) => item)).size).toBe(1);
    expect(counted[0]![0]).toMatchObject({ weight: 32, label: 'y' });
  });

  it('takes one query for all rows that are given the same SQL', async () => {
    const items = Array.from({ length: 300 }, (_value, index) => ({
      where: { name: `n${index}` },
      values: { weight: raw('weight + 1') },
    }));
    for (const { where } of items) await insert(where.name);
    for (const weight of [1, 2]) {
      const results = await repository().updateOrCreateMany(items);
      expect(results.every(([item]) => item.weight === weight)).toBe(true);
    }
    expect(longest()).toBeLessThan(40);
  });
});

describe('a batch beyond one statement', () => {
  const wheres = Array.from({ length: 5_050 }, (_value, index) => ({ name: `n${index}` }));

  it('is stored whole in one transaction, or not at all', async () => {
    await repository().getOrCreateMany(wheres);
    expect(kinds(db.statements.take())).toEqual(['select', 'begin', 'insert', 'insert', 'commit']);
    await rival.query('truncate item, made');
    const failing = repository().getOrCreateMany(wheres, (_where, index) =>
      index === 5_049 ? { weight: 2 ** 40 } : {},
    );
    await expect(failing).rejects.toThrow(/out of range/);
    await expect(rows()).resolves.toEqual([]);
  });

  it('is updated whole', async () => {
    const results = await repository().updateOrCreateMany(wheres.map((where) => ({ where, values: { weight: 1 } })));
    expect(results).toHaveLength(5_050);
    expect(await rows()).toHaveLength(5_050);
  });
});

/** Runs both calls so that each waits for a row that `holder` has inserted, then lets `holder` end. */
async function whileHeld(
  held: string,
  first: () => Promise<unknown>,
  second: () => Promise<unknown>,
  table = 'item',
): Promise<PromiseSettledResult<unknown>[]> {
  await rival.query('begin');
  await insert(held, table);
  const calls = [first()];
  await untilBlocked(watcher, 1);
  calls.push(second());
  await untilBlocked(watcher, 2);
  await rival.query('rollback');
  return Promise.allSettled(calls);
}

describe('overlapping batches that wait for each other', () => {
  const lists = [
    ['a', 'm', 'z'],
    ['z', 'm', 'a'],
  ];

  it('insert in one order, whatever the order of their lists', async () => {
    const [first, second] = lists.map((names) => () => repository().getOrCreateMany(names.map((name) => ({ name }))));
    const results = await whileHeld('m', first!, second!);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });

  it('insert in one order, whatever properties their lookups name beside the key', async () => {
    const results = await whileHeld(
      'm',
      () => repository().getOrCreateMany([{ name: 'a' }, { name: 'm' }, { name: 'z', note: null }]),
      () => repository().getOrCreateMany([{ name: 'z' }, { name: 'm' }, { name: 'a', note: null }]),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });

  it('insert in one order through an overridden createEntity, each batch in one transaction', async () => {
    const made = (names: string[]) => () =>
      db.orm.em
        .fork()
        .getRepository(Made)
        .getOrCreateMany(names.map((name) => ({ name })));
    const results = await whileHeld('m', made(['a', 'm', 'z']), made(['z', 'm', 'a']), 'made');
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });

  it('insert in one order by update, whatever the order of their lists', async () => {
    const [first, second] = lists.map(
      (names) => () =>
        repository().updateOrCreateMany(names.map((name, weight) => ({ where: { name }, values: { weight } }))),
    );
    const results = await whileHeld('m', first!, second!);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });

  it('insert in one order by update, whatever values they give', async () => {
    const item = (name: string, values: { weight?: number; note?: string }) => ({ where: { name }, values });
    const results = await whileHeld(
      'n',
      () =>
        repository().updateOrCreateMany([item('m', { weight: 1 }), item('n', { weight: 1 }), item('z', { weight: 1 })]),
      () =>
        repository().updateOrCreateMany([
          item('m', { weight: 2, note: 'x' }),
          item('l', { weight: 2 }),
          item('z', { weight: 2 }),
        ]),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });

  it('lock existing rows in one order, whatever names them, and before nothing that they insert', async () => {
    await rival.query(`insert into item (id, name) values (-2, 'b'), (-1, 'c')`);
    const results = await whileHeld(
      'm',
      () =>
        repository().updateOrCreateMany([
          { where: { name: 'c' }, values: { weight: 1 } },
          { where: { name: 'b' }, values: { weight: 1 } },
          { where: { name: 'm' }, values: { weight: 1 } },
        ]),
      () =>
        repository().updateOrCreateMany([
          { where: { id: -1 }, values: { weight: 2, name: 'c' } },
          { where: { name: 'm' }, values: { weight: 2 } },
          { where: { id: -2 }, values: { weight: 2, name: 'b' } },
        ]),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });
});

describe('a batch that turns out to be impossible', () => {
  it('stores nothing, though some of its rows could be created', async () => {
    await rival.query(`insert into item (name, weight) values ('taken', 1)`);
    const before = await rows();
    const batch = repository().getOrCreateMany([{ name: 'fresh' }, { name: 'taken', weight: 99 }]);
    await expect(batch).rejects.toThrow(UniqueConstraintViolationException);
    await expect(rows()).resolves.toEqual(before);
  });
});

describe('a batch of found and new rows', () => {
  const wheres = Array.from({ length: 120 }, (_value, index) => ({ name: `n${index}` }));
  const isFound = (index: number): boolean => index % 2 === 0;

  beforeEach(async () => {
    await repository().getOrCreateMany(wheres.filter((_where, index) => isFound(index)));
  });

  it('has the found ones managed while the database creates the others', async () => {
    const em = db.orm.em.fork();
    const managed = (): object[] => em.getUnitOfWork().getIdentityMap().values();
    await rival.query('begin');
    await insert('n1');
    const call = em.getRepository(Item).getOrCreateMany(wheres);
    await untilBlocked(watcher, 1);
    await until(() => managed().length > 0);
    expect(managed()).toHaveLength(60);
    await rival.query('commit');
    const results = await call;
    expect(results.map(([{ name }]) => name)).toEqual(wheres.map(({ name }) => name));
    expect(results.map(([, created]) => created)).toEqual(wheres.map((_, index) => !isFound(index) && index !== 1));
    db.statements.take();
    await em.flush();
    expect(db.statements.take()).toEqual([]);
  });

  it('keeps what was changed in an entity that was loaded meanwhile', async () => {
    const em = db.orm.em.fork();
    let known: { weight: number } | undefined;
    const weight = async (): Promise<number> => {
      known ??= await em.findOneOrFail(Item, { name: 'n0' });
      known.weight = 7;
      return 1;
    };
    const results = await em.getRepository(Item).getOrCreateMany(wheres, { weight });
    expect(results[0]![0]).toBe(known);
    expect(results[0]![0].weight).toBe(7);
    await em.flush();
    expect((await rival.query(`select name from item where weight = 7`)).rows).toEqual([{ name: 'n0' }]);
  });

  it('fails as the creation fails', async () => {
    const em = db.orm.em.fork();
    const note = 'x'.repeat(300);
    await expect(em.getRepository(Item).getOrCreateMany(wheres, { note })).rejects.toMatchObject({ code: '22001' });
    expect((await rival.query('select 1 from item')).rowCount).toBe(60);
  });
});
