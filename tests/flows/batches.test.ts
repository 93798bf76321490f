import { UniqueConstraintViolationException } from '@mikro-orm/core';
import { defineEntity, p } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo, type CreationContext, type Values } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
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

let db: TestOrm;
let rival: Client;
let watcher: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Item, Made] });
  rival = await rivalClient(db.url);
  watcher = await rivalClient(db.url);
});
beforeEach(async () => {
  await rival.query('truncate item, made');
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
