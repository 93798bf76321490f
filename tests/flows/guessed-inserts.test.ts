import { jest } from '@jest/globals';
import { defineEntity, p, type EntityManager } from '@mikro-orm/postgresql';
import type { Client } from 'pg';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient, untilBlocked } from './rival.js';
import { kinds } from './statements.js';

const properties = {
  id: p.integer().primary(),
  name: p.string().unique(),
  weight: p.integer().default(0),
};
const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: {
      ...properties,
      label: p.string().nullable().unique(),
      made: p
        .datetime()
        .defaultRaw('now()')
        .onCreate(() => new Date(0)),
    },
    checks: [{ name: 'weight_check', expression: 'weight >= 0' }],
  }),
  GetOrCreateRepo,
);
const Strict = withRepo(
  defineEntity({ name: 'Strict', properties: { ...properties, kind: p.string() } }),
  GetOrCreateRepo,
);
const beforeCreate = jest.fn<() => void>();
const Hooked = withRepo(
  defineEntity({ name: 'Hooked', properties, hooks: { beforeCreate: [beforeCreate] } }),
  GetOrCreateRepo,
);
class LoudBase {
  id!: number;
  name: string;

  constructor(name: string) {
    this.name = `${name}!`;
  }
}
const Loud = withRepo(
  defineEntity({ class: LoudBase, properties: { id: p.integer().primary(), name: p.string().unique() } }),
  GetOrCreateRepo,
);
const Typed = withRepo(
  defineEntity({ name: 'Typed', properties: { id: p.integer().primary(), name: p.string().unique() } }),
  GetOrCreateRepo,
);

let db: TestOrm;
let rival: Client;
let watcher: Client;

beforeAll(async () => {
  db = await createTestOrm({ entities: [Tag, Strict, Hooked, Loud, Typed] });
  rival = await rivalClient(db.url);
  watcher = await rivalClient(db.url);
});

type Entity = typeof Tag;
const repository = (entity: Entity = Tag, em: EntityManager = db.orm.em.fork()) => em.getRepository(entity);
let count = 0;
const names = (size: number): string[] => Array.from({ length: size }, () => `n${(count += 1)}`);
const getAll = (wanted: readonly string[], defaults: object = {}, entity: Entity = Tag) =>
  Promise.all(wanted.map((name) => repository(entity).getOrCreate({ name }, defaults)));
const insert = (name: string, table = 'tag') =>
  rival.query(`insert into "${table}" (name, weight) values ($1, 77)`, [name]);
const lastId = async (): Promise<unknown> => (await rival.query('select last_value from tag_id_seq')).rows[0];

/** Two statements that find nothing, of which lookups like them learn. */
async function learn(entity: Entity = Tag, defaults: object = {}): Promise<void> {
  // what earlier tests have taught
  const [known] = names(1);
  await repository(entity).getOrCreate({ name: known! }, defaults);
  await repository(entity).getOrCreate({ name: known! }, defaults);
  for (let time = 0; time < 2; time += 1) {
    db.statements.take();
    await getAll(names(4), defaults, entity);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
  }
}

describe('lookups like those that found nothing of late', () => {
  it('are one insert, of rows as they would be otherwise', async () => {
    await learn();
    const wanted = names(5);
    const ems = wanted.map(() => db.orm.em.fork());
    const results = await Promise.all(
      ems.map((em, weight) => repository(Tag, em).getOrCreate({ name: wanted[weight]! }, { weight })),
    );
    expect(results.map(([{ name, weight, made }, created]) => [name, weight, made, created])).toEqual(
      wanted.map((name, weight) => [name, weight, new Date(0), true]),
    );
    expect(kinds(db.statements.take())).toEqual(['insert']);
    for (const em of ems) await em.flush();
    await Promise.all(
      wanted.map((name, index) =>
        expect(repository(Tag, ems[index]).getOrCreate({ name })).resolves.toEqual([results[index]![0], false]),
      ),
    );
    expect(db.statements.take()).toEqual([]);
    const { rows } = await rival.query('select id, weight from tag where name = any($1) order by weight', [wanted]);
    expect(rows).toEqual(results.map(([{ id, weight }]) => ({ id, weight })));
  });

  it('are one insert also when one EntityManager makes them', async () => {
    await learn();
    const shared = repository();
    const results = await Promise.all(names(20).map((name) => shared.getOrCreate({ name })));
    expect(results.every(([, created]) => created)).toBe(true);
    expect(kinds(db.statements.take())).toEqual(['insert']);
  });

  it('are a select after all when a row is there, which is not touched; and no sequence moves for it', async () => {
    await learn();
    const wanted = names(5);
    await insert(wanted[1]!);
    await insert(wanted[3]!);
    await rival.query(`update tag set label = 'before' where name = $1`, [wanted[1]]);
    const before = await lastId();
    const existing = await getAll([wanted[1]!, wanted[3]!, wanted[1]!], { weight: 5 });
    expect(existing.map(([{ weight }, created]) => [weight, created])).toEqual(
      Array.from({ length: 3 }, () => [77, false]),
    );
    expect(kinds(db.statements.take())).toEqual(['select']);
    await expect(lastId()).resolves.toEqual(before);

    await learn();
    const start = (await lastId()) as { last_value: string };
    const results = await getAll(wanted, { weight: 5 });
    expect(results.map(([{ name, weight }, created]) => [name, weight, created])).toEqual(
      wanted.map((name, index) => [name, index % 2 ? 77 : 5, index % 2 === 0]),
    );
    expect(kinds(db.statements.take())).toEqual(['insert', 'select', 'insert']);
    await expect(lastId()).resolves.toEqual({ last_value: String(Number(start.last_value) + 3) });
    // a wrong guess is the last one
    await getAll(names(4));
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
  });

  it('cost no more than their selects would when all rows are there', async () => {
    await learn();
    const wanted = names(3);
    for (const name of wanted) await insert(name);
    const before = await lastId();
    const results = await getAll(wanted);
    expect(results.map(([{ weight }, created]) => [weight, created])).toEqual(wanted.map(() => [77, false]));
    expect(kinds(db.statements.take())).toEqual(['insert', 'select']);
    await expect(lastId()).resolves.toEqual(before);
  });

  it.each([1, 2])('look first when they are %i', async (size) => {
    await learn();
    const results = await getAll(names(size));
    expect(results.every(([, created]) => created)).toBe(true);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert']);
  });

  it('create a key that several want once', async () => {
    await learn();
    const [a, b, c] = names(3) as [string, string, string];
    const results = await getAll([a, b, a, c, a]);
    expect(results.map(([{ name }, created]) => [name, created])).toEqual([
      [a, true],
      [b, true],
      [a, false],
      [c, true],
      [a, false],
    ]);
    expect(results[2]![0].id).toBe(results[0]![0].id);
    expect(kinds(db.statements.take())).toEqual(['insert', 'select']);
  });

  it.each([
    ['breaks a constraint', { weight: -1 }, '23514'],
    ['has a value out of range', { weight: 2 ** 40 }, '22003'],
  ])('fail alone when a row %s, within the statements that they may send', async (_name, bad, code) => {
    await learn();
    const wanted = names(3);
    const results = await Promise.allSettled(
      wanted.map((name, index) => repository().getOrCreate({ name }, index === 1 ? bad : {})),
    );
    expect(results).toMatchObject([{ value: [{}, true] }, { reason: { code } }, { value: [{}, true] }]);
    expect(db.statements.take().length).toBeLessThanOrEqual(3 * 2);
  });

  it('fail alone when a value can’t be written out', async () => {
    await learn();
    const results = await Promise.allSettled(
      names(4).map((name, index) =>
        repository().getOrCreate({ name }, { made: new Date(index === 1 ? Number.NaN : 0) }),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
  });

  it('are there for rows that exist, whatever would be wrong with new ones', async () => {
    await learn();
    const wanted = names(3);
    for (const name of wanted) await insert(name);
    const results = await getAll(wanted, { weight: 2 ** 40 });
    expect(results.map(([{ weight }]) => weight)).toEqual([77, 77, 77]);
    expect(db.statements.take().length).toBeLessThanOrEqual(3);

    await learn(Strict as unknown as Entity, { kind: 'k' });
    await rival.query(`insert into strict (name, kind) values ('there', 'k')`);
    const [[found], missing] = await Promise.all([
      repository(Strict as unknown as Entity).getOrCreate({ name: 'there' }),
      repository(Strict as unknown as Entity)
        .getOrCreate({ name: 'not there' })
        .catch((error: unknown) => error),
    ]);
    expect(found).toMatchObject({ name: 'there' });
    expect(missing).toMatchObject({ message: expect.stringContaining('kind') as string });
  });

  it.each(['default', 'constructor'] as const)(
    'find the rows that they name where a %s gives new ones other keys',
    async (way) => {
      const entity = way === 'default' ? Tag : (Loud as unknown as Entity);
      const table = way === 'default' ? 'tag' : 'loud_base';
      for (let time = 0; time < 2; time += 1) await getAll(names(4), {}, entity);
      const wanted = names(3);
      await rival.query(`insert into ${table} (name) select unnest($1::text[])`, [wanted]);
      const results = await Promise.all(
        wanted.map((name) => repository(entity).getOrCreate({ name }, way === 'default' ? { name: `${name}!` } : {})),
      );
      expect(results.map(([{ name }, created]) => [name, created])).toEqual(wanted.map((name) => [name, false]));
    },
  );

  it('wait for a key that another transaction has inserted, and nobody else waits with it', async () => {
    await learn();
    const [a, held, z] = names(3) as [string, string, string];
    await rival.query('begin');
    await insert(held);
    const waiting = repository().getOrCreate({ name: held }, { weight: 2 });
    const free = await getAll([a, z]);
    expect(free.map(([, created]) => created)).toEqual([true, true]);
    await untilBlocked(watcher, 1);
    await rival.query('rollback');
    await expect(waiting).resolves.toMatchObject([{ weight: 2 }, true]);
    expect(db.statements.take().length).toBeLessThanOrEqual(3 * 2);
  });

  it('call functions among the defaults only for rows that are created', async () => {
    await learn();
    const wanted = names(4);
    for (const name of wanted) await insert(name);
    const weight = jest.fn(() => 1);
    await getAll(wanted, { weight });
    expect(weight).not.toHaveBeenCalled();
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it('look first where somebody listens to creations', async () => {
    const hooked = Hooked as unknown as Entity;
    await learn(hooked);
    const wanted = names(4);
    for (const name of wanted) await insert(name, 'hooked');
    beforeCreate.mockClear();
    await getAll(wanted, {}, hooked);
    expect(beforeCreate).not.toHaveBeenCalled();
    expect(kinds(db.statements.take())).toEqual(['select']);
  });

  it('share nothing with those inside a transaction, which look first', async () => {
    await learn();
    await db.orm.em.fork().transactional(async (em) => {
      await Promise.all(names(4).map((name) => repository(Tag, em).getOrCreate({ name })));
    });
    expect(kinds(db.statements.take())).not.toEqual(['begin', 'insert', 'commit']);
  });

  it('tell created rows where the column is really another type', async () => {
    const typed = Typed as unknown as Entity;
    await learn(typed);
    await db.orm.em.execute('alter table typed alter column name type char(10)');
    db.statements.take();
    const results = await getAll(names(4), {}, typed);
    expect(results.every(([, created]) => created)).toBe(true);
    expect(kinds(db.statements.take())).toEqual(['insert', 'select']);
    await expect(getAll(names(4), {}, typed)).resolves.toMatchObject(Array.from({ length: 4 }, () => [{}, true]));
  });
});
