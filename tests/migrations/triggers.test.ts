import type { Client } from 'pg';
import { ConfigurationError } from '../../src/errors.js';
import { triggerName, type WatchedEvent } from '../../src/invalidation/change-log.js';
import { changeLogDown, triggersDown, triggersUp, type TriggerOptions } from '../../src/migrations.js';
import { rawClient } from '../harness/servers.js';
import { loggedDatabase, takeLog } from './support/log.js';

let client: Client;
let url: string;
let watch: (options: TriggerOptions) => Promise<void>;

beforeEach(async () => {
  ({ client, url, watch } = await loggedDatabase());
  await client.query(`create table tag (id int primary key, name text not null unique, n int not null default 0)`);
  await client.query(`insert into tag (id, name) values (1, 'a'), (2, 'b'), (3, 'c')`);
  await watch({ table: 'tag', primaryKey: ['id'] });
});

afterEach(() => client.end());

const keys = (...ids: unknown[]): { id: unknown }[] => ids.map((id) => ({ id }));

describe('a statement logs the keys of its rows', () => {
  test.each([
    ['an update', `update tag set n = n + 1 where id < 3`, keys(1, 2)],
    ['an update that changes the primary key: the old one', `update tag set id = id + 10 where id = 2`, keys(2)],
    ['a delete', `delete from tag where id = 3`, keys(3)],
    [
      'insert … on conflict do update: the row that was there',
      `insert into tag (id, name) values (9, 'a'), (10, 'new') on conflict (name) do update set n = 5`,
      keys(1),
    ],
    [
      'merge',
      `merge into tag using (values (1), (7)) v (id) on tag.id = v.id
         when matched then update set n = 1 when not matched then insert (id, name) values (v.id, 'm')`,
      keys(1),
    ],
    ['an update that writes the same values', `update tag set n = n where id = 1`, keys(1)],
    ['an update inside a query', `with w as (update tag set n = 1 where id = 1 returning 1) select * from w`, keys(1)],
  ])('%s', async (_, sql, expected) => {
    await client.query(sql);
    expect(await takeLog(client)).toEqual([['public.tag', expected]]);
  });

  test('COPY into a table that merges what arrives', async () => {
    await client.query(`create table arrival (id int, n int)`);
    await client.query(`create function merge_arrival() returns trigger language plpgsql as $$ begin
      update tag set n = new.n where id = new.id; return new; end $$`);
    await client.query(`create trigger merge after insert on arrival for each row execute function merge_arrival()`);
    await client.query(`copy arrival from program 'echo 1,5; echo 2,6' with (format csv)`);
    expect((await takeLog(client)).flatMap(([, logged]) => logged)).toEqual(keys(1, 2));
  });
});

describe('nothing is logged', () => {
  test.each([
    ['for a statement that changes no row', `update tag set n = 1 where id = 99`],
    ['for a delete of no row', `delete from tag where id = 99`],
    ['for new rows: their absence was never cached', `insert into tag (id, name) values (4, 'd')`],
    ['for on conflict do nothing', `insert into tag (id, name) values (1, 'a') on conflict do nothing`],
    ['for COPY, which only adds rows', `copy tag (id, name) from program 'echo 4,d' with (format csv)`],
  ])('%s', async (_, sql) => {
    await client.query(sql);
    expect(await takeLog(client)).toEqual([]);
  });

  test('when the transaction is rolled back, or a savepoint in it', async () => {
    await client.query('begin');
    await client.query('update tag set n = 1 where id = 1');
    await client.query('savepoint s');
    await client.query('update tag set n = 1 where id = 2');
    await client.query('rollback to savepoint s');
    await client.query('commit');
    expect(await takeLog(client)).toEqual([['public.tag', keys(1)]]);

    await client.query('begin');
    await client.query('update tag set n = 2 where id = 1');
    await client.query('rollback');
    expect(await takeLog(client)).toEqual([]);
  });
});

test('the log row is visible to others exactly when the change is', async () => {
  const other = await rawClient(url);
  const logged = async () => (await other.query('select id from plus_change_log')).rows.length;
  await client.query('begin');
  await client.query('update tag set n = 1 where id = 1');
  expect(await logged()).toBe(0);
  await client.query('commit');
  expect(await logged()).toBe(1);
  await other.end();
});

describe('foreign keys', () => {
  test.each([
    ['on delete cascade', 'delete from tag where id < 3', keys(10, 11, 20)],
    ['on update cascade', 'update tag set id = id + 100 where id < 3', keys(10, 11, 20)],
  ])('%s logs the referencing rows', async (action, sql, expected) => {
    await client.query(`create table post (id int primary key, tag_id int references tag ${action})`);
    await client.query(`insert into post values (10, 1), (11, 1), (20, 2), (30, 3)`);
    await watch({ table: 'post', primaryKey: ['id'] });
    await client.query(sql);
    const log = await takeLog(client);
    const of = (table: string) => log.filter(([name]) => name === table).flatMap(([, logged]) => logged);
    expect(of('public.tag')).toEqual(keys(1, 2));
    expect(of('public.post')).toEqual(expected);
  });

  test('on delete set null logs the referencing rows', async () => {
    await client.query(`create table post (id int primary key, tag_id int references tag on delete set null)`);
    await client.query(`insert into post values (10, 1), (30, 3)`);
    await watch({ table: 'post', primaryKey: ['id'] });
    await client.query('delete from tag where id = 1');
    expect(await takeLog(client)).toEqual(
      expect.arrayContaining([
        ['public.tag', keys(1)],
        ['public.post', keys(10)],
      ]),
    );
  });

  test('truncate says that any row may have changed, and with cascade of each table that it empties', async () => {
    await client.query(`create table post (id int primary key, tag_id int references tag)`);
    await watch({ table: 'post', primaryKey: ['id'] });
    await client.query('truncate post');
    expect(await takeLog(client)).toEqual([['public.post', 'any']]);
    await client.query('truncate tag cascade');
    const emptied = new Map((await takeLog(client)) as [string, unknown][]);
    expect(emptied).toEqual(
      new Map([
        ['public.tag', 'any'],
        ['public.post', 'any'],
      ]),
    );
  });
});

describe('keys', () => {
  test.each([
    ['bigint, exact beyond 2^53', 'bigint', `9007199254740993`, '9007199254740993'],
    ['uuid', 'uuid', `'0b35ee5c-1b1e-4f5a-9c6d-1b2c3d4e5f60'`, '0b35ee5c-1b1e-4f5a-9c6d-1b2c3d4e5f60'],
    ['text with everything', 'text', `E'a"b\\\\c,\\n d''$plus$ {}'`, `a"b\\c,\n d'$plus$ {}`],
    ['a type of the application', 'mood', `'so, so'`, 'so, so'],
  ])('of type %s, as the table has them', async (_, type, sql, expected) => {
    await client.query(`create type mood as enum ('so, so', 'well')`);
    await client.query(`create table t (key ${type} primary key, n int)`);
    await watch({ table: 't', primaryKey: ['key'] });
    await client.query(`insert into t values (${sql})`);
    await client.query(`update t set n = 1`);
    const { rows } = await client.query(
      `select (jsonb_populate_record(null::t, key)).key from plus_change_log, jsonb_array_elements(keys) key`,
    );
    expect(rows).toEqual([{ key: expected }]);
  });

  test('of several columns, with names that need quotes, in a table and schema whose names do', async () => {
    await client.query(`create schema "My ""odd"" $schema$?"`);
    const table = `"My ""odd"" $schema$?"."A 'table', 100% $plus$ \\ name?"`;
    await client.query(`create table ${table} ("A ""b"" ?" int, "it's $plus$ %I" text, "plus_keys" int default 7,
      k int, primary key ("A ""b"" ?", "it's $plus$ %I", "plus_keys"))`);
    const options = {
      schema: 'My "odd" $schema$?',
      table: `A 'table', 100% $plus$ \\ name?`,
      primaryKey: ['A "b" ?', `it's $plus$ %I`, 'plus_keys'],
    };
    await watch(options);
    await client.query(`insert into ${table} values (1, 'one'), (2, 'two')`);
    await client.query(`update ${table} set k = 1`);
    await client.query(`delete from ${table} where "A ""b"" ?" = 2`);
    await client.query(`truncate ${table}`);
    const key = (id: number, text: string) => ({ 'A "b" ?': id, [`it's $plus$ %I`]: text, plus_keys: 7 });
    const name = `${options.schema}.${options.table}`;
    expect(await takeLog(client)).toEqual([
      [name, [key(1, 'one'), key(2, 'two')]],
      [name, [key(2, 'two')]],
      [name, 'any'],
    ]);
    for (const sql of triggersDown(options)) await client.query(sql);
    await client.query(`delete from ${table}`);
    expect(await functions()).not.toContainEqual(expect.stringContaining('odd'));
  });

  test.each([
    'r',
    'a',
    'c',
    'g',
    's',
    'keys',
    'part',
    'absent',
    'found',
    'new',
    'tg_op',
    'tg_table_name',
    'plus_changed',
  ])('in a column that is called %s, alone or beside others', async (name) => {
    for (const [table, others] of [
      ['one', []],
      ['two', ['id']],
    ] as const) {
      const primaryKey = [name, ...others];
      await client.query(
        `create table ${table} ("${name}" int, id int default 7, n int, primary key ("${primaryKey.join('", "')}"))`,
      );
      await watch({ table, primaryKey });
      await client.query(`insert into ${table} ("${name}") select generate_series(1, 1001)`);
      await client.query(`update ${table} set n = 1 where "${name}" < 3`);
      await client.query(`delete from ${table}`);
      const log = await takeLog(client);
      const key = (value: number) => ({ [name]: value, ...Object.fromEntries(others.map((other) => [other, 7])) });
      expect(log[0]).toEqual([`public.${table}`, [key(1), key(2)]]);
      expect(log.slice(1).flatMap(([, logged]) => logged)).toHaveLength(1001);
      expect(log.slice(1).flatMap(([, logged]) => logged)).toContainEqual(key(1001));
    }
  });

  test('two tables whose names agree in all that PostgreSQL keeps of a function name', async () => {
    const names = ['x', 'y'].map((end) => `${'ä'.repeat(31)}${end}`);
    for (const table of names) {
      await client.query(`create table "${table}" (id int primary key, "of_${table.at(-1)}" int)`);
      await watch({ table, primaryKey: ['id'] });
      await client.query(`insert into "${table}" values (1)`);
    }
    for (const table of names) {
      await client.query(`update "${table}" set id = 2`);
      await client.query(`delete from "${table}"`);
      await client.query(`truncate "${table}"`);
    }
    expect(await takeLog(client)).toEqual(
      names.flatMap((table) => [
        [`public.${table}`, keys(1)],
        [`public.${table}`, keys(2)],
        [`public.${table}`, 'any'],
      ]),
    );
    for (const table of names) for (const sql of triggersDown({ table })) await client.query(sql);
    expect(await functions()).toEqual(['tag_plus_v3_delete_fn', 'tag_plus_v3_truncate_fn', 'tag_plus_v3_update_fn']);
  });
});

describe('a large change', () => {
  test.each([
    ['int', 'i'],
    ['uuid', 'md5(i::text)::uuid'],
    ['text', `'a,"' || E',\\n ' || i`],
  ])('is logged in rows of at most 1 000 keys, each key once (%s)', async (type, value) => {
    await client.query(`create table big (id ${type} primary key, n int)`);
    await watch({ table: 'big', primaryKey: ['id'] });
    await client.query(`insert into big select ${value} from generate_series(1, 2500) i`);
    await client.query(`update big set n = 1`);
    const sizes = await client.query(`select jsonb_array_length(keys) as size from plus_change_log order by 1`);
    expect(sizes.rows.map(({ size }) => size)).toEqual([500, 1000, 1000]);
    const missing = await client.query(
      `select id from big except select (jsonb_populate_record(null::big, key)).id
       from plus_change_log, jsonb_array_elements(keys) key`,
    );
    expect(missing.rows).toEqual([]);
  });

  test('of a composite key too, and exactly 1 000 rows are one log row', async () => {
    await client.query(`create table big (a int, b text, primary key (a, b))`);
    await watch({ table: 'big', primaryKey: ['a', 'b'] });
    await client.query(`insert into big select i, 'x, ' || i from generate_series(1, 1500) i`);
    await client.query(`delete from big where a <= 1000`);
    await client.query(`insert into big select i, 'x, ' || i from generate_series(1, 1000) i`);
    await client.query(`delete from big`);
    const { rows } = await client.query(
      `select jsonb_array_length(keys) as size, keys -> 0 as first from plus_change_log order by id`,
    );
    expect(rows.map(({ size }) => size)).toEqual([1000, 1000, 500]);
    expect(rows[0].first).toEqual({ a: 1, b: 'x, 1' });
  });

  test('of more than a million rows is logged without keys', async () => {
    await client.query(`create unlogged table big (id int primary key)`);
    await client.query(`insert into big select generate_series(1, 1000001)`);
    await watch({ table: 'big', primaryKey: ['id'] });
    await client.query(`delete from big`);
    expect(await takeLog(client)).toEqual([['public.big', 'any']]);
  });
});

test('a change of few rows takes no further transaction id', async () => {
  await client.query(`update tag set n = 1 where id < 3`);
  const { rows } = await client.query(
    `select log.xmin = tag.xmin as same from plus_change_log log, tag where tag.id = 1`,
  );
  expect(rows).toEqual([{ same: true }]);
});

describe('partitions and inheritance', () => {
  test('a partitioned table logs what is written by its name, rows that move to another partition too', async () => {
    await client.query(`create table event (id int, day int, n int, primary key (id, day)) partition by list (day)`);
    for (const day of [1, 2]) await client.query(`create table event_${day} partition of event for values in (${day})`);
    await watch({ table: 'event', primaryKey: ['id', 'day'] });
    await client.query(`insert into event values (1, 1), (2, 2)`);
    await client.query(`update event set n = 1`);
    await client.query(`update event set day = 2 where id = 1`);
    await client.query(`delete from event where id = 2`);
    await client.query(`truncate event`);
    expect(await takeLog(client)).toEqual([
      [
        'public.event',
        [
          { id: 1, day: 1 },
          { id: 2, day: 2 },
        ],
      ],
      ['public.event', [{ id: 1, day: 1 }]],
      ['public.event', [{ id: 2, day: 2 }]],
      ['public.event', 'any'],
    ]);
  });

  test('what is written by the name of a partition is logged by triggers of its own, under the name of its parent', async () => {
    await client.query(`create table event (id int primary key, n int) partition by range (id)`);
    await client.query(`create table event_low partition of event for values from (0) to (10)`);
    await watch({ table: 'event', primaryKey: ['id'] });
    await client.query(`insert into event values (1), (2)`);
    await client.query(`update event_low set n = 1`);
    expect(await takeLog(client)).toEqual([]);

    await watch({ table: 'event_low', primaryKey: ['id'], logAs: 'event' });
    await client.query(`update event_low set n = 2`);
    await client.query(`update event set n = 3`);
    await client.query(`truncate event_low`);
    expect(await takeLog(client)).toEqual([
      ['public.event', keys(1, 2)],
      ['public.event', keys(1, 2)],
      ['public.event', 'any'],
    ]);
  });

  test('an inheriting table is watched through its parent, or with triggers of its own', async () => {
    await client.query(`create table special (extra text) inherits (tag)`);
    await client.query(`insert into special (id, name) values (7, 'special')`);
    await client.query(`update tag set n = 1 where id in (1, 7)`);
    expect(await takeLog(client)).toEqual([['public.tag', keys(1, 7)]]);

    await client.query(`update special set n = 2`);
    expect(await takeLog(client)).toEqual([]);
    await watch({ table: 'special', primaryKey: ['id'], logAs: 'tag' });
    await client.query(`update special set n = 3`);
    expect(await takeLog(client)).toEqual([['public.tag', keys(7)]]);
  });
});

describe('the rights of the writer', () => {
  let writer: string;

  beforeEach(async () => {
    writer = `writer_${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
    await client.query(`create role ${writer} nosuperuser`);
    await client.query(`grant select, update, delete, truncate on tag to ${writer}`);
    await client.query(`create schema trap; grant usage, create on schema trap to ${writer}`);
  });

  afterEach(() => client.query(`reset role; reset search_path; drop owned by ${writer}; drop role ${writer}`));

  test('whoever may change the table needs no right to the log, and can put nothing of his own into its way', async () => {
    await client.query(`set role ${writer}`);
    for (const sql of [
      `create function trap.jsonb_agg(jsonb) returns jsonb language sql as $$ select 'null'::jsonb $$`,
      `create function trap.pg_notify(text, text) returns void language sql as $$ select 1/0 $$`,
      `create table trap.plus_change_log (like tag)`,
      `set search_path = trap, public, pg_catalog`,
      `update public.tag set n = 1 where id = 1`,
      `truncate public.tag`,
    ]) {
      await client.query(sql);
    }
    await expect(client.query(`select * from public.plus_change_log`)).rejects.toThrow('permission denied');
    await client.query(`reset role; reset search_path`);
    expect(await takeLog(client)).toEqual([
      ['public.tag', keys(1)],
      ['public.tag', 'any'],
    ]);
  });

  test('nobody else can put the functions on a table of his own', async () => {
    await client.query(`set role ${writer}`);
    await client.query(`create table trap.own (id int)`);
    for (const event of ['update', 'delete', 'truncate']) {
      const create = `create trigger own after ${event} on trap.own for each statement
        execute function tag_${triggerName(event as WatchedEvent)}_fn('keys')`;
      await expect(client.query(create)).rejects.toThrow('permission denied for function');
    }
  });

  test('a trigger that lost its transition table reads none that the writer has made', async () => {
    await client.query(`create or replace trigger plus_v3_update after update on tag for each statement
      execute function tag_plus_v3_update_fn()`);
    await client.query(`create table called (by name); grant insert on called to ${writer}`);
    await client.query(`set role ${writer}`);
    await client.query(`create function trap.call() returns int language plpgsql as $$ begin
      insert into public.called values (current_user); return 1; end $$`);
    await client.query(`create temporary view plus_changed as select trap.call() as id`);
    await client.query(`update tag set n = 1 where id = 1`);
    await client.query(`reset role`);
    expect((await client.query(`select * from called`)).rows).toEqual([]);
    expect(await takeLog(client)).toEqual([['public.tag', 'any']]);
  });
});

test('sessions that turn ordinary triggers off are logged all the same', async () => {
  await client.query(`set session_replication_role = replica`);
  await client.query(`update tag set n = 1 where id = 1`);
  await client.query(`truncate tag`);
  expect(await takeLog(client)).toEqual([
    ['public.tag', keys(1)],
    ['public.tag', 'any'],
  ]);
});

describe('a change of the schema under the triggers breaks no write', () => {
  test('a renamed primary key column: logged without keys until the triggers are made anew', async () => {
    await client.query(`alter table tag rename column id to tag_id`);
    await client.query(`update tag set n = 1 where tag_id = 1`);
    await client.query(`delete from tag where tag_id = 2`);
    expect(await takeLog(client)).toEqual([
      ['public.tag', 'any'],
      ['public.tag', 'any'],
    ]);
    await watch({ table: 'tag', primaryKey: ['tag_id'] });
    await client.query(`update tag set n = 2 where tag_id = 1`);
    expect(await takeLog(client)).toEqual([['public.tag', [{ tag_id: 1 }]]]);
  });

  test('a renamed column of a composite primary key', async () => {
    await client.query(`create table pair (a int, b int, n int, primary key (a, b)); insert into pair values (1, 2)`);
    await watch({ table: 'pair', primaryKey: ['a', 'b'] });
    await client.query(`update pair set n = 1`);
    await client.query(`alter table pair rename b to c`);
    await client.query(`update pair set n = 2`);
    await client.query(`alter table pair rename c to b; alter table pair rename a to c`);
    await client.query(`update pair set n = 3`);
    expect((await takeLog(client)).map(([, logged]) => logged)).toEqual([[{ a: 1, b: 2 }], 'any', 'any']);
  });

  test('another type of the primary key, new columns, another name of the table', async () => {
    await client.query(`update tag set n = 1 where id = 1`);
    await client.query(`alter table tag alter id type bigint, add more text`);
    await client.query(`update tag set id = 9007199254740993 where id = 1`);
    await client.query(`update tag set n = 3 where id > 3`);
    await client.query(`alter table tag rename to label`);
    await client.query(`delete from label where id = 2`);
    const { rows } = await client.query(`select table_name, keys::text from plus_change_log order by id`);
    expect(rows).toEqual([
      { table_name: 'tag', keys: '[{"id": 1}]' },
      { table_name: 'tag', keys: '[{"id": 1}]' },
      { table_name: 'tag', keys: '[{"id": 9007199254740993}]' },
      { table_name: 'label', keys: '[{"id": 2}]' },
    ]);
  });

  test('triggers that were made again without their transition table log without keys', async () => {
    // what MikroORM writes into the `down` of a migration that removed them
    await client.query(`create or replace trigger plus_v3_update after update on tag for each statement
      execute function tag_plus_v3_update_fn()`);
    await client.query(`update tag set n = 1 where id = 1`);
    expect(await takeLog(client)).toEqual([['public.tag', 'any']]);
  });
});

describe('notifications', () => {
  async function notified(work: () => Promise<unknown>): Promise<unknown[]> {
    const payloads: unknown[] = [];
    const listen = ({ payload }: { payload?: string }) => void payloads.push(JSON.parse(payload!));
    client.on('notification', listen);
    await client.query('listen plus_change');
    await work();
    await client.query('unlisten *');
    client.off('notification', listen);
    return payloads;
  }

  test('name the table and the keys', async () => {
    const payloads = await notified(async () => {
      await client.query(`update tag set n = 1 where id < 3`);
      await client.query(`delete from tag where id = 3`);
      await client.query(`truncate tag`);
      await client.query(`update tag set n = 1`);
    });
    expect(payloads).toEqual([
      { s: 'public', t: 'tag', k: keys(1, 2) },
      { s: 'public', t: 'tag', k: keys(3) },
      { s: 'public', t: 'tag' },
    ]);
  });

  test('leave the keys out when they are too long for one, or too many', async () => {
    await client.query(`create table long (id text primary key, n int)`);
    await watch({ table: 'long', primaryKey: ['id'] });
    await client.query(`insert into long select repeat('ä', 1700) || i from generate_series(1, 3) i`);
    await client.query(`insert into tag (id, name) select i, i from generate_series(4, 1001) i`);
    const payloads = await notified(async () => {
      await client.query(`update long set n = 1 where id like '%1'`);
      await client.query(`update long set n = 1`);
      await client.query(`update tag set n = 1`);
    });
    expect(payloads).toEqual([
      { s: 'public', t: 'long', k: keys(`${'ä'.repeat(1700)}1`) },
      { s: 'public', t: 'long' },
      { s: 'public', t: 'tag' },
    ]);
  });

  test('are never too long for PostgreSQL, whatever the names', async () => {
    const table = '\u0001'.repeat(40);
    await client.query(`create schema "${table}"; create table "${table}"."${table}" (id text primary key)`);
    await watch({ schema: table, table, primaryKey: ['id'] });
    const payloads = await notified(async () => {
      for (let length = 6_970; length <= 7_010; length += 1) {
        await client.query(`insert into "${table}"."${table}" values (repeat('x', ${length}))`);
        await client.query(`delete from "${table}"."${table}"`);
      }
    });
    expect(payloads).toHaveLength(41);
    expect(payloads[0]).toMatchObject({ s: table, t: table, k: keys('x'.repeat(6_970)) });
    expect(payloads.at(-1)).toEqual({ s: table, t: table });
    expect(await takeLog(client)).toHaveLength(41);
  });

  test('come with the commit, not before and not without it', async () => {
    const payloads = await notified(async () => {
      await client.query('begin');
      await client.query(`update tag set n = 1 where id = 1`);
      await client.query('rollback');
    });
    expect(payloads).toEqual([]);
  });
});

test('a restored dump has its triggers, and loading its rows logs nothing', async () => {
  // the order of pg_dump: functions, tables, rows by COPY, then keys and triggers
  const statements = triggersUp({ table: 'copied', primaryKey: ['id'], schema: 'public' });
  const functionsFirst = statements.filter((sql) => sql.startsWith('create or replace function'));
  const triggersLast = statements.filter((sql) => !functionsFirst.includes(sql));
  for (const sql of functionsFirst) await client.query(sql);
  await client.query(`create table copied (id int, n int)`);
  await client.query(`copy copied from program 'echo 1,5; echo 2,6' with (format csv)`);
  await client.query(`alter table copied add primary key (id)`);
  for (const sql of triggersLast) await client.query(sql);
  expect(await takeLog(client)).toEqual([]);
  await client.query(`update copied set n = 1 where id = 2`);
  expect(await takeLog(client)).toEqual([['public.copied', keys(2)]]);
});

test('triggersDown() leaves nothing, changeLogDown() drops the log', async () => {
  for (const sql of [...triggersDown({ table: 'tag' }), ...changeLogDown()]) await client.query(sql);
  await client.query(`update tag set n = 1; delete from tag; truncate tag`);
  expect(await functions()).toEqual([]);
  const { rows } = await client.query(`select tgname from pg_trigger where not tgisinternal`);
  expect(rows).toEqual([]);
});

test('a log in another schema', async () => {
  await client.query(`create schema ops; create table ops.plus_change_log (like plus_change_log including all)`);
  await watch({ table: 'tag', primaryKey: ['id'], logSchema: 'ops' });
  await client.query(`update tag set n = 1 where id = 1`);
  await client.query(`truncate tag`);
  expect(await takeLog(client, 'ops')).toEqual([
    ['public.tag', keys(1)],
    ['public.tag', 'any'],
  ]);
});

test('triggers without a primary key are refused', () => {
  expect(() => triggersUp({ table: 'tag', primaryKey: [] })).toThrow(ConfigurationError);
});

async function functions(): Promise<string[]> {
  const { rows } = await client.query(
    `select proname from pg_proc where prorettype = 'trigger'::regtype
       and pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) order by 1`,
  );
  return rows.map(({ proname }) => proname);
}
