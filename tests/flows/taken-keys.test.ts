import { UniqueConstraintViolationException } from '@mikro-orm/core';
import { defineEntity, p, type EntityManager } from '@mikro-orm/postgresql';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Client } from 'pg';
import { GetOrCreateRepo, PlusRepo, PlusSubscriber, withRepo, type LookupMessage } from '../../src/index.js';
import { serverVersion } from '../../src/orm/server-version.js';
import { createTestOrm, type TestOrm } from '../harness/orm.js';
import { rivalClient } from './rival.js';
import { givesTakenRows, kinds } from './statements.js';

const loaded: string[] = [];
const events: string[] = [];

const Tag = withRepo(
  defineEntity({
    name: 'Tag',
    properties: {
      id: p.integer().primary(),
      name: p.string().unique(),
      weight: p.integer().default(0),
      data: p.json<{ list: number[] }>().nullable(),
    },
    hooks: {
      onLoad: [({ entity }) => void loaded.push((entity as { name: string }).name)],
      afterCreate: [({ entity }) => void events.push((entity as { name: string }).name)],
    },
  }),
  GetOrCreateRepo,
);
const Slot = withRepo(
  defineEntity({
    name: 'Slot',
    properties: {
      id: p.integer().primary(),
      room: p.string(),
      hour: p.integer().nullable(),
      isOpen: p.boolean().default(true),
    },
    uniques: [
      {
        name: 'slot_key',
        properties: ['room', 'hour'],
        expression: 'create unique index "slot_key" on "slot" ("room", "hour") nulls not distinct',
      },
    ],
  }),
  GetOrCreateRepo,
);
const Cached = withRepo(
  defineEntity({
    name: 'Cached',
    properties: { id: p.integer().primary(), name: p.string().unique(), weight: p.integer().default(0) },
  }),
  PlusRepo,
);

/** A server with `on conflict do select` answers with the insert what others are asked for once more. */
let isFoundAtOnce: boolean;
let afterInsert: string[];
let db: TestOrm;
let plus: PlusSubscriber;
let rival: Client;

beforeAll(async () => {
  plus = new PlusSubscriber({ stores: { default: 'memory://' } });
  db = await createTestOrm({ entities: [Tag, Slot, Cached], subscribers: [plus] });
  rival = await rivalClient(db.url);
  isFoundAtOnce = await givesTakenRows(db.orm.em);
  afterInsert = isFoundAtOnce ? [] : ['select'];
  const { rows } = await rival.query<{ server_version_num: string }>('show server_version_num');
  expect(serverVersion(db.orm.em)).toBe(Number(rows[0]!.server_version_num));
});
beforeEach(async () => {
  await rival.query('truncate tag, slot, cached restart identity');
  for (const list of [loaded, events]) list.length = 0;
  db.statements.take();
});

const em = (): EntityManager => db.orm.em.fork();

/** Defaults that let another connection be faster, between the select and the insert. */
const losing = (sql: string, values: unknown[] = []) => ({
  weight: async (): Promise<number> => {
    await rival.query(sql, values);
    return 1;
  },
});
const insertTag = `insert into tag (name, weight, data) values ('x', 77, '{"list": [1]}') on conflict do nothing`;

describe('a key that another writer has taken in between', () => {
  it('gives the row of the other one, by the insert itself where the server can', async () => {
    const own = em();
    const [tag, created] = await own.getRepository(Tag).getOrCreate({ name: 'x' }, losing(insertTag));
    expect([{ ...tag }, created]).toEqual([{ id: 1, name: 'x', weight: 77, data: { list: [1] } }, false]);
    const sent = db.statements.take();
    expect(kinds(sent)).toEqual(['select', 'insert', ...afterInsert]);
    expect(sent[1]).toContain(
      isFoundAtOnce
        ? `on conflict ("name") do select where "t0"."name" = 'x' returning`
        : 'on conflict ("name") do nothing returning',
    );
    expect([loaded, events]).toEqual([['x'], []]);
    // managed and clean, and nobody else is in the unit of work
    expect(await own.getRepository(Tag).getOrCreate({ name: 'x' })).toEqual([tag, false]);
    expect(own.getUnitOfWork().getIdentityMap().values()).toHaveLength(1);
    await own.flush();
    expect(db.statements.take()).toEqual([]);
    // the other one's row was not written
    const { rows } = await rival.query('select xmax::text, weight from tag');
    expect(rows).toEqual([{ xmax: '0', weight: 77 }]);
  });

  it('counts as a lookup in the database and a lost race', async () => {
    const heard: unknown[] = [];
    const hear = (message: unknown): void => {
      const { servedBy, created, raceLost } = message as LookupMessage;
      heard.push({ servedBy, created, raceLost });
    };
    subscribe('mikro-orm-plus:lookup', hear);
    const before = plus.statistics(Cached);
    const defaults = losing(`insert into cached (name, weight) values ('x', 77)`);
    const [row, created] = await em().getRepository(Cached).getOrCreate({ name: 'x' }, defaults);
    unsubscribe('mikro-orm-plus:lookup', hear);
    expect([row.weight, created]).toEqual([77, false]);
    expect(heard).toEqual([{ servedBy: 'database', created: false, raceLost: true }]);
    const { racesLost, databaseHits, created: createdRows } = plus.statistics(Cached);
    expect([racesLost, databaseHits, createdRows]).toEqual([before.racesLost + 1, before.databaseHits + 1, 0]);
  });

  it('gives a row that the cache may keep until it is changed', async () => {
    const defaults = losing(`insert into cached (name, weight) values ('x', 77)`);
    await em().getRepository(Cached).getOrCreate({ name: 'x' }, defaults);
    db.statements.take();
    await expect(em().getRepository(Cached).getOrCreate({ name: 'x' })).resolves.toMatchObject([{ weight: 77 }, false]);
    expect(db.statements.take()).toEqual([]);
    await em().getRepository(Cached).updateOrCreate({ name: 'x' }, { weight: 78 });
    await expect(em().getRepository(Cached).getOrCreate({ name: 'x' })).resolves.toMatchObject([{ weight: 78 }, false]);
  });

  it('leaves the transaction alive that lost the race', async () => {
    await em().transactional(async (inner) => {
      const [tag, created] = await inner.getRepository(Tag).getOrCreate({ name: 'x' }, losing(insertTag));
      expect([tag.weight, created]).toEqual([77, false]);
      await inner.getRepository(Tag).getOrCreate({ name: 'y' });
    });
    const { rows } = await rival.query('select name from tag order by name');
    expect(rows).toEqual([{ name: 'x' }, { name: 'y' }]);
  });

  it('is an error when its row differs in the rest of the lookup', async () => {
    const getting = em().getRepository(Tag).getOrCreate({ name: 'x', weight: 5 }, losing(insertTag));
    await expect(getting).rejects.toThrow(UniqueConstraintViolationException);
  });

  it('is an error when the key is that of the defaults, which name another row', async () => {
    await rival.query(insertTag);
    const getting = em().getRepository(Tag).getOrCreate({ name: 'wanted' }, { name: 'x' });
    await expect(getting).rejects.toThrow(UniqueConstraintViolationException);
  });

  it.each([8, null])('is found by a key of several columns, one of them %s', async (hour) => {
    const race = async (): Promise<boolean> => {
      await rival.query('insert into slot (room, hour, is_open) values ($1, $2, false)', ['blue', hour]);
      return true;
    };
    const [slot, created] = await em().getRepository(Slot).getOrCreate({ room: 'blue', hour }, { isOpen: race });
    expect([slot.isOpen, created]).toEqual([false, false]);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', ...afterInsert]);
  });

  it('gives each of those who asked for it in one turn an entity of its own', async () => {
    const go = Promise.withResolvers<number>();
    const asked = Array.from({ length: 4 }, () => Promise.withResolvers<void>());
    const calls = asked.map(({ resolve }) => {
      const weight = async (): Promise<number> => {
        resolve();
        return go.promise;
      };
      return em().getRepository(Tag).getOrCreate({ name: 'x' }, { weight });
    });
    await Promise.all(asked.map(({ promise }) => promise));
    await rival.query(insertTag);
    go.resolve(1);
    const results = await Promise.all(calls);
    expect(results.map(([{ weight }, created]) => [weight, created])).toEqual(results.map(() => [77, false]));
    expect(new Set(results.map(([tag]) => tag)).size).toBe(4);
    expect(new Set(results.map(([tag]) => tag.data!.list)).size).toBe(4);
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'select']);
  });

  it('is looked for as ever when filters or a lock take a query of MikroORM’s own', async () => {
    await em().transactional(async (inner) => {
      const [tag] = await inner.getRepository(Tag).getOrCreate({ name: 'x' }, losing(insertTag), { lockMode: 4 });
      expect(tag.weight).toBe(77);
    });
    const sent = db.statements.take();
    expect(sent.filter((sql) => sql.includes('do select'))).toEqual([]);
    expect(sent.at(-2)).toMatch(/for update/);
  });
});
