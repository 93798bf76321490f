/**
 * What forms of statements cost that look rows up, and create those that are missing: the ones that the library sends, and
 * others that it could.
 *
 *     npm run bench:statement-forms [-- --seconds 5 --keys 16]
 *
 * It starts a PostgreSQL of its own. All forms of a task take turns, one statement at a time on one connection of
 * MikroORM's. Shown are the medians of their turns: the time of a task, and the CPU time of this process for it; both also
 * as ratios to the first form, of which the median of the turns is shown too.
 */
import { parseArgs } from 'node:util';
import { defineEntity, MikroORM, p } from '@mikro-orm/postgresql';
import { startServers } from '../tests/harness/servers.js';

const Item = defineEntity({
  name: 'Item',
  properties: {
    id: p.integer().primary(),
    name: p.string().unique(),
    weight: p.integer().nullable(),
    note: p.text().nullable(),
    active: p.boolean().default(true),
    createdAt: p.datetime().defaultRaw('now()'),
  },
});
const ROWS = 10_000;
const TURN_MS = 250;
const NOTE = 'a note of some length, as rows have them';

const options = { seconds: { type: 'string', default: '5' }, keys: { type: 'string', default: '16' } } as const;
const { seconds, keys } = parseArgs({ options }).values;
await using servers = await startServers({ postgres: true });
const orm = await MikroORM.init({ entities: [Item], clientUrl: servers.postgres!.url, pool: { min: 0, max: 1 } });
await orm.schema.create();
await orm.em.execute(
  `insert into item (name, weight, note) select 'k' || i, i, '${NOTE}' from generate_series(1, ${ROWS}) as i`,
);
await orm.em.execute('vacuum analyze item');

const connection = orm.em.getConnection();

const send = (sql: string, params: readonly unknown[]): Promise<unknown[]> =>
  connection.execute<unknown[]>(sql, [...params]);

/** By a named prepared statement, which MikroORM has no way for: the driver takes its name in place of the text. */
async function sendNamed(text: string, params: readonly unknown[]): Promise<unknown[]> {
  const name = text.slice(0, 40) + text.length;
  const query = { kind: 'RawNode', sqlFragments: [text], parameters: [] };
  const compiled = { query, queryId: { queryId: name }, sql: { name, text }, parameters: [...params] };
  return (await connection.getClient().executeQuery<unknown>(compiled as never)).rows;
}

const columns = ['id', 'name', 'weight', 'note', 'active', 'created_at'].map((name) => `"t0"."${name}"`).join(', ');
const into = 'insert into "item" as "t0" ("name", "weight", "note", "active")';
const returning = `on conflict ("name") do nothing returning ${columns}`;
const patience = `(select set_config('lock_timeout', '50ms', true)) is not null`;
const list = (values: readonly unknown[]): string => `{${values.map((value) => `"${value as string}"`).join(',')}}`;
const typed = (column: string): string => `(null::"item")."${column}"`;

const selectAny = (names: readonly string[]) =>
  send(`select ${columns} from "item" as "t0" where "t0"."name" = any(?)`, [list(names)]);
const selectAnyNamed = (names: readonly string[]) =>
  sendNamed(`select ${columns} from "item" as "t0" where "t0"."name" = any($1)`, [list(names)]);

const insertOne = (name: string) => send(`${into} values (?, ?, ?, ?) ${returning}`, [name, 1, NOTE, true]);
const insertOneNamed = (name: string) =>
  sendNamed(`${into} values ($1, $2, $3, $4) ${returning}`, [name, 1, NOTE, true]);

/** A list `k` of rows, numbered. */
function valuesOf(names: readonly string[]): { sql: string; params: unknown[] } {
  const tuples = names.map((_, index) => `(${index + 1}, ?, ?, ?, ?)`).join(', ');
  const first = ['name', 'weight', 'note', 'active'].map(typed).join(', ');
  return {
    sql: `(values (0, ${first}), ${tuples}) as "k" ("o", "k0", "k1", "k2", "k3")`,
    params: names.flatMap((name) => [name, 1, NOTE, true]),
  };
}

const joined = `"i" as (${into} select "k0", "k1", "k2", "k3" from "k" where ${patience} order by "o" ${returning}, "t0"."name" as "i0")`;

function insertJoined(names: readonly string[]): Promise<unknown[]> {
  const { sql, params } = valuesOf(names);
  return send(
    `with "k" as (select * from ${sql} where "o" > 0), ${joined} select "i".*, "o" from "i" inner join "k" on "i0" = "k0"`,
    params,
  );
}

const listed = (condition = ''): string =>
  `${into} select "k"."n", ?, ?, ? from unnest(array_fill(${typed('name')}, '{0}') || ?) with ordinality as "k" ("n", "o") ` +
  `where ${patience}${condition} order by "k"."o" ${returning}`;

const insertByValue = (names: readonly string[]) => send(listed(), [1, NOTE, true, list(names)]);
const insertIfNone = (names: readonly string[]) =>
  send(listed(' and not exists (select from "item" as "t1" where "t1"."name" = any(?))'), [
    1,
    NOTE,
    true,
    list(names),
    list(names),
  ]);

const insertNamed = (names: readonly string[]) =>
  sendNamed(
    `${into} select * from unnest($1::varchar[], $2::int4[], $3::text[], $4::bool[]) where ${patience} ${returning}`,
    [names, names.map(() => 1), names.map(() => NOTE), names.map(() => true)].map(list),
  );

const either = `select *, false as "new" from "f" union all select *, true from "i"`;
const bothOfOne = (name: string) =>
  send(
    `with "f" as (select ${columns} from "item" as "t0" where "t0"."name" = ?), ` +
      `"i" as (${into} select ?, ?, ?, ? where not exists (select from "f") ${returning}) ${either}`,
    [name, name, 1, NOTE, true],
  );
const bothOfMany = (names: readonly string[]) =>
  send(
    `with "f" as materialized (select ${columns} from "item" as "t0" where "t0"."name" = any(?)), ` +
      `"i" as (${listed(' and not exists (select from "f" where "f"."name" = "k"."n")')}) ${either}`,
    [list(names), 1, NOTE, true, list(names)],
  );

/** Fails when a form doesn't do what it is measured for. */
async function expectRows(count: number, rows: Promise<unknown[]>): Promise<void> {
  const { length } = await rows;
  if (length !== count) throw new Error(`${length} rows instead of ${count}`);
}

const many = Number(keys);
let made = 0;
const known = (): string => `k${1 + Math.floor(Math.random() * ROWS)}`;
const fresh = (): string => `new name ${(made += 1)}`;
const freshNames = (): string[] => Array.from({ length: many }, fresh);
const knownNames = (): string[] => {
  const first = 1 + Math.floor(Math.random() * (ROWS - many));
  return Array.from({ length: many }, (_, index) => `k${first + index}`);
};

type Form = () => Promise<void>;

/** Looks first, and then inserts. */
function inTwo<K>(make: () => K, look: (key: K) => Promise<unknown[]>, insert: (key: K) => Promise<unknown[]>): Form {
  return async () => {
    const key = make();
    await expectRows(0, look(key));
    await expectRows(Array.isArray(key) ? key.length : 1, insert(key));
  };
}

const tasks: Record<string, Record<string, Form>> = {
  'find 1 row': {
    select: () => expectRows(1, selectAny([known()])),
    'select, prepared': () => expectRows(1, selectAnyNamed([known()])),
  },
  'create 1 row': {
    'select, insert': inTwo(fresh, (name) => selectAny([name]), insertOne),
    'one statement (CTE)': () => expectRows(1, bothOfOne(fresh())),
    'select, insert, prepared': inTwo(fresh, (name) => selectAnyNamed([name]), insertOneNamed),
  },
  [`find ${many} rows`]: {
    select: () => expectRows(many, selectAny(knownNames())),
    'select, prepared': () => expectRows(many, selectAnyNamed(knownNames())),
    'one statement (CTE)': () => expectRows(many, bothOfMany(knownNames())),
  },
  [`create ${many} rows`]: {
    'select, insert joined to its keys': inTwo(freshNames, selectAny, insertJoined),
    'select, insert': inTwo(freshNames, selectAny, insertByValue),
    'one statement (CTE)': () => expectRows(many, bothOfMany(freshNames())),
    'insert if none is there': () => expectRows(many, insertIfNone(freshNames())),
    'select, insert, prepared': inTwo(freshNames, selectAnyNamed, insertNamed),
  },
};

interface Turn {
  readonly microseconds: number;
  readonly cpu: number;
}

async function turn(form: Form): Promise<Turn> {
  const started = performance.now();
  const cpu = process.cpuUsage();
  let times = 0;
  while (performance.now() - started < TURN_MS) {
    await form();
    times += 1;
  }
  const { user, system } = process.cpuUsage(cpu);
  return { microseconds: ((performance.now() - started) * 1_000) / times, cpu: (user + system) / times };
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[values.length >> 1]!;
}

for (const [task, forms] of Object.entries(tasks)) {
  const names = Object.keys(forms);
  const turns = new Map(names.map((name) => [name, [] as Turn[]]));
  for (const form of Object.values(forms)) await turn(form);
  const rounds = Math.max(3, Math.ceil((Number(seconds) * 1_000) / TURN_MS));
  for (let round = 0; round < rounds; round += 1)
    for (const index of names.keys()) {
      const name = names[(index + round) % names.length]!;
      turns.get(name)!.push(await turn(forms[name]!));
    }
  const first = turns.get(names[0]!)!;
  const show = (name: string, of: keyof Turn): string => {
    const own = turns.get(name)!;
    const ratio = median(own.map((each, index) => each[of] / first[index]![of]));
    return `${median(own.map((each) => each[of])).toFixed(0)} µs (${ratio.toFixed(2)})`;
  };
  console.log(`\n${task}`);
  for (const name of names)
    console.log(`  ${name.padEnd(34)} ${show(name, 'microseconds').padStart(16)}   CPU ${show(name, 'cpu')}`);
}
await orm.close();
