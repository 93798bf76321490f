import { defineEntity, p } from '@mikro-orm/postgresql';
import { GetOrCreateRepo, withRepo } from '../../src/index.js';
import { createTestOrm } from '../harness/orm.js';
import { kinds } from './statements.js';

const Ref = withRepo(
  defineEntity({ name: 'Ref', properties: { id: p.integer().primary(), key: p.string().unique() } }),
  GetOrCreateRepo,
);
const Num = withRepo(
  defineEntity({ name: 'Num', properties: { id: p.integer().primary(), key: p.integer().unique() } }),
  GetOrCreateRepo,
);
const uuid = (i: number) => `00000000-0000-4000-8000-0000000000${(i + 160).toString(16).toUpperCase()}`;

it.each([
  ['uuid', uuid],
  ['char(10)', (i: number) => `k${i}`],
  ['numeric(10,2)', (i: number) => `${i}`],
  ['citext', (i: number) => `K${i}`],
])('tells created rows where the column is really %s', async (type, make) => {
  await using db = await createTestOrm({ entities: [Ref] });
  await db.orm.em.execute('create extension if not exists citext');
  await db.orm.em.execute(`alter table ref alter column key type ${type} using key::${type}`);
  for (const n of [3, 60]) {
    await db.orm.em.execute('truncate ref');
    const got = await db.orm.em
      .fork()
      .getRepository(Ref)
      .getOrCreateMany(Array.from({ length: n }, (_, i) => ({ key: make(i) })));
    expect(got.filter(([, created]) => created)).toHaveLength(n);
  }
});

it('tells created rows of callers that share an insert', async () => {
  await using db = await createTestOrm({ entities: [Ref] });
  await db.orm.em.execute('alter table ref alter column key type char(10)');
  for (const start of ['a', 'b']) {
    db.statements.take();
    const calls = Array.from({ length: 4 }, (_, i) =>
      db.orm.em
        .fork()
        .getRepository(Ref)
        .getOrCreate({ key: start + i }),
    );
    const got = await Promise.all(calls);
    expect(got.map(([{ key }, created]) => [key.trim(), created])).toEqual(
      Array.from({ length: 4 }, (_, i) => [start + i, true]),
    );
    expect(kinds(db.statements.take())).toEqual(['select', 'insert', 'select']);
  }
});

it('tells created rows where the number is really a bigint', async () => {
  await using db = await createTestOrm({ entities: [Num] });
  await db.orm.em.execute(`alter table num alter column key type bigint`);
  const got = await db.orm.em
    .fork()
    .getRepository(Num)
    .getOrCreateMany(Array.from({ length: 60 }, (_, key) => ({ key })));
  expect(got.filter(([, created]) => created)).toHaveLength(60);
});

it('tells that a row was created for a text with half a character', async () => {
  await using db = await createTestOrm({ entities: [Ref] });
  const keys = ['whole', String.fromCharCode(0xd800)].map((key) => ({ key }));
  const got = await db.orm.em.fork().getRepository(Ref).getOrCreateMany(keys);
  expect(got.map(([, created]) => created)).toEqual([true, true]);
});
