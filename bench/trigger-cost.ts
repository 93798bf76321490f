/**
 * What the triggers of the change log cost: the same writes to tables with and without them, in turns on one server.
 *
 *     npx tsx bench/trigger-cost.ts --rounds 9 [--fsync] [--only "one row"]
 *
 * Starts a PostgreSQL of its own, without fsync unless it is told otherwise, or uses an empty database that DATABASE_URL
 * names. Prints medians, and the median of the ratios of each round. Single rows are updated in turns, statement by
 * statement, also in tables whose triggers do only a part of the work: what each part costs is the difference. Two more
 * have our triggers without what makes them safe for others, or the log quick to read.
 */
import { parseArgs } from 'node:util';
import { defineEntity, MikroORM, p } from '@mikro-orm/postgresql';
import { Client } from 'pg';
import { PlusSubscriber, withPlusRepo } from '../src/index.js';
import { changeLogUp, triggersUp } from '../src/migrations.js';
import { startServers } from '../tests/harness/servers.js';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    only: { type: 'string', default: '' },
    fsync: { type: 'boolean', default: false },
  },
});
const ROUNDS = Number(options.rounds);
const ROWS = 100_000;
/** Of the tables whose single rows are updated: few enough that all of them stay in PostgreSQL's 128 MB of buffers. */
const FEW_ROWS = 10_000;
const SINGLE_UPDATES = 500;
const FLUSHES = 200;

interface Case {
  readonly name: string;
  /** One round on one of the two tables; milliseconds per repetition. */
  readonly run: (table: string) => Promise<number>;
}

async function time(repetitions: number, work: (index: number) => Promise<unknown>): Promise<number> {
  const start = process.hrtime.bigint();
  for (let index = 0; index < repetitions; index++) await work(index);
  return Number(process.hrtime.bigint() - start) / 1e6 / repetitions;
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

/** A table as applications have them: 8 columns, and 4 indexes of which one holds a column that every update changes. */
async function createTable(client: Client, table: string, keyType: 'int' | 'uuid', rows = ROWS): Promise<void> {
  const key = keyType === 'int' ? 'i' : 'md5(i::text)::uuid';
  await client.query(`create table ${table} (id ${keyType} primary key, name varchar(255) not null unique,
    slug varchar(255) not null unique, owner_id int not null, n int not null default 0, note text,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now())`);
  await client.query(`insert into ${table} (id, name, slug, owner_id, note)
    select ${key}, 'name number ' || i, 'slug-number-' || i, i % 1000, repeat('x', 60) from generate_series(1, ${rows}) i`);
  await client.query(`create index on ${table} (owner_id, updated_at)`);
  await client.query(`vacuum analyze ${table}`);
}

/** A table with only a key, a number and a text: the least work that an update can be, so the highest ratio. */
async function createNarrowTable(client: Client, table: string): Promise<void> {
  await client.query(`create table ${table} (id int primary key, n int not null, name text not null)`);
  await client.query(`insert into ${table} select i, 0, 'name number ' || i from generate_series(1, ${ROWS}) i`);
  await client.query(`vacuum analyze ${table}`);
}

/** Triggers that do a part of what ours do, each what the one before does and more. */
const PARTS = [
  { name: 'a trigger that does nothing', transition: '', body: '' },
  { name: '… with a transition table', transition: 'referencing old table as changed', body: '' },
  {
    name: '… and a row without keys in the log',
    transition: 'referencing old table as changed',
    body: `insert into public.plus_change_log (table_schema, table_name) values (tg_table_schema, tg_table_name);`,
  },
  {
    name: '… with the keys from the transition table',
    transition: 'referencing old table as changed',
    body: `insert into public.plus_change_log (table_schema, table_name, keys)
      select tg_table_schema, tg_table_name, pg_catalog.json_agg(r.*)::text::jsonb from (select id from changed limit 1001) r;`,
  },
] as const;

/** Our triggers without what they could do without, at a price: see docs/outside-writes.md. */
const SHORTENED = [
  {
    name: '… without a fixed search_path',
    change: (sql: string) => sql.replace('set search_path = pg_catalog, pg_temp', ''),
  },
  {
    name: '… into a log without an index',
    change: (sql: string) => sql.replaceAll('"plus_change_log"', '"log_without_index"'),
  },
] as const;

async function createShortened(client: Client, { change }: (typeof SHORTENED)[number], table: string): Promise<void> {
  await createTable(client, table, 'int', FEW_ROWS);
  for (const sql of triggersUp({ table, primaryKey: ['id'] })) await client.query(change(sql));
}

async function createPart(client: Client, { transition, body }: (typeof PARTS)[number], table: string): Promise<void> {
  await createTable(client, table, 'int', FEW_ROWS);
  await client.query(`create function ${table}_fn() returns trigger language plpgsql security definer
    set search_path = pg_catalog, pg_temp as $$ begin ${body} return null; end $$`);
  await client.query(`create trigger part after update on ${table} ${transition} for each statement
    execute function ${table}_fn()`);
}

/** Updates of one row each, of all tables in turns; the first is what the others are compared with. */
async function compareSingleRows(client: Client, tables: readonly (readonly [name: string, table: string])[]) {
  const update = async (table: string, index: number): Promise<number> =>
    time(1, () =>
      client.query({
        name: `single ${table}`,
        text: `update ${table} set n = n + 1, updated_at = clock_timestamp() where id = $1`,
        values: [1 + ((index * 7919) % FEW_ROWS)],
      }),
    );
  const medians: number[][] = tables.map(() => []);
  // the first round fills caches and prepares statements
  for (let round = -1; round < ROUNDS; round++) {
    const times: number[][] = tables.map(() => []);
    for (let index = 0; index < SINGLE_UPDATES; index++) {
      for (const offset of tables.keys()) {
        const at = (index + offset) % tables.length;
        times[at]!.push(await update(tables[at]![1], index));
      }
    }
    for (const [, table] of tables) await client.query(`vacuum ${table}`);
    await client.query('truncate plus_change_log, log_without_index');
    if (round >= 0) for (const [at, values] of times.entries()) medians[at]!.push(median(values));
  }
  for (const [at, [name]] of tables.entries()) {
    const ratios = medians[at]!.map((value, round) => value / medians[0]![round]!);
    print(name, [median(medians[0]!), median(medians[at]!)], median(ratios));
  }
}

function print(name: string, times: readonly number[], ratio: number): void {
  const columns = [...times.map((value) => value.toFixed(3)), ratio.toFixed(2)];
  console.log(name.padEnd(52), ...columns.map((column) => column.padStart(10)));
}

async function compare(client: Client, { name, run }: Case, table: string): Promise<void> {
  if (!name.includes(options.only)) return;
  const times: { plain: number[]; logged: number[]; ratios: number[] } = { plain: [], logged: [], ratios: [] };
  // the first round fills caches and prepares statements
  for (let round = -1; round < ROUNDS; round++) {
    const order = round % 2 === 0 ? ['plain', 'logged'] : ['logged', 'plain'];
    const result: Record<string, number> = {};
    for (const kind of order) result[kind] = await run(`${table}_${kind}`);
    for (const kind of order) await client.query(`vacuum ${table}_${kind}`);
    await client.query('truncate plus_change_log');
    if (round < 0) continue;
    times.plain.push(result.plain!);
    times.logged.push(result.logged!);
    times.ratios.push(result.logged! / result.plain!);
  }
  print(name, [median(times.plain), median(times.logged)], median(times.ratios));
}

async function flushCase(url: string): Promise<Case & { close(): Promise<void> }> {
  const entity = (tableName: string) =>
    withPlusRepo(
      defineEntity({
        name: tableName,
        tableName,
        properties: { id: p.integer().primary(), name: p.string().unique(), n: p.integer() },
      }),
    );
  const entities = { int_plain: entity('int_plain'), int_logged: entity('int_logged') };
  const orm = await MikroORM.init({
    entities: Object.values(entities),
    clientUrl: url,
    subscribers: [new PlusSubscriber()],
  });
  return {
    name: 'em.flush() of one row, cached in memory',
    async run(table) {
      const em = orm.em.fork();
      const repository = em.getRepository(entities[table as keyof typeof entities]);
      const [row] = await repository.getOrCreate({ name: 'name number 7' }, { n: 0 });
      return time(FLUSHES, () => {
        row.n += 1;
        return em.flush();
      });
    },
    close: () => orm.close(),
  };
}

async function measure(url: string): Promise<void> {
  const client = new Client(url);
  await client.connect();
  for (const sql of changeLogUp()) await client.query(sql);
  for (const table of ['int', 'uuid', 'narrow'] as const) {
    for (const kind of ['plain', 'logged']) {
      if (table === 'narrow') await createNarrowTable(client, `narrow_${kind}`);
      else await createTable(client, `${table}_${kind}`, table);
    }
    for (const sql of triggersUp({ table: `${table}_logged`, primaryKey: ['id'] })) await client.query(sql);
  }
  const { rows } = await client.query('select version(), current_setting($1) as fsync', ['fsync']);
  console.log(`${rows[0].version}\nfsync ${rows[0].fsync}, ${ROUNDS} rounds, milliseconds\n`);
  console.log(' '.repeat(52), ...['without', 'with', 'ratio'].map((column) => column.padStart(10)));

  const bulk = (name: string): Case => ({
    name,
    run: (table) => time(1, () => client.query(`update ${table} set n = n + 1, updated_at = clock_timestamp()`)),
  });
  if ('update of one row'.includes(options.only)) {
    for (const table of ['one_plain', 'one_logged']) await createTable(client, table, 'int', FEW_ROWS);
    for (const sql of triggersUp({ table: 'one_logged', primaryKey: ['id'] })) await client.query(sql);
    for (const [index, part] of PARTS.entries()) await createPart(client, part, `part_${index}`);
    await client.query('create table log_without_index (like plus_change_log including defaults)');
    for (const [index, way] of SHORTENED.entries()) await createShortened(client, way, `shortened_${index}`);
    await compareSingleRows(client, [
      ['update of one row by primary key, autocommit', 'one_plain'],
      ...PARTS.map(({ name }, index) => [name, `part_${index}`] as const),
      ['the triggers of the change log', 'one_logged'],
      ...SHORTENED.map(({ name }, index) => [name, `shortened_${index}`] as const),
    ]);
  }
  const flush = await flushCase(url);
  await compare(client, flush, 'int');
  await flush.close();
  await compare(client, bulk(`update of ${ROWS} rows, int key`), 'int');
  await compare(client, bulk(`update of ${ROWS} rows, uuid key`), 'uuid');
  const narrow: Case = {
    name: `update of ${ROWS} rows, narrow table`,
    run: (table) => time(1, () => client.query(`update ${table} set n = n + 1`)),
  };
  await compare(client, narrow, 'narrow');
  await client.end();
}

const { DATABASE_URL } = process.env;
if (DATABASE_URL) {
  await measure(DATABASE_URL);
} else {
  await using servers = await startServers({ postgres: { durable: options.fsync } });
  await measure(servers.postgres!.url);
}
