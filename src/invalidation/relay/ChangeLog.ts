import { createHash } from 'node:crypto';
import type { Row } from '../../orm/context.js';
import { CHANGE_LOG_TABLE } from '../change-log.js';
import type { RelaySession } from './RelaySession.js';
import type { WatchedTable } from './WatchedTable.js';

/** Changed rows that are taken from the log at a time, give or take one row of the log. */
const MAX_KEYS = 20_000;

/** Where counting ends. */
const MAX_COUNTED = 100_000;

/** What nobody has delivered in this time is of tables that nobody caches any more. */
const KEPT_DAYS = 7;

/** Rows that are thrown away in one statement. */
const SWEPT = 10_000;

/** A row of the log, without its keys. */
export interface LoggedChange {
  readonly id: string;
  readonly schema: string;
  readonly table: string;
  /** Any row of the table may have changed. */
  readonly isWhole: boolean;
  /** Milliseconds since the change, when this was read. */
  readonly ageMs: number;
}

/** Which part of the log is looked at. */
export interface LogView {
  readonly tables: readonly WatchedTable[];
  /** Only rows that have been there for so long, in milliseconds. */
  readonly minAgeMs?: number;
}

/** The statements on the change log. Names are quoted, values are parameters. */
export class ChangeLog {
  readonly #table: string;

  /** @param schema of the log table */
  constructor(schema: string) {
    this.#table = `${identifier(schema)}.${identifier(CHANGE_LOG_TABLE)}`;
  }

  /** The oldest changes in view, up to `limit` rows of the log. */
  async read(session: RelaySession, view: LogView, limit: number): Promise<LoggedChange[]> {
    return session.query<LoggedChange>(
      `select id::text as id, table_schema as "schema", table_name as "table", not has_keys as "isWhole",
         (extract(epoch from clock_timestamp() - created_at) * 1000)::float8 as "ageMs"
       from (
         select *, sum(key_count) over (order by id) - key_count as keys_before
         from (
           select id, table_schema, table_name, created_at, ${HAS_KEYS} as has_keys,
             case when ${HAS_KEYS} then jsonb_array_length(keys) else 0 end as key_count
           from ${this.#table} where ${IN_VIEW} order by id limit $5
         ) as oldest
       ) as counted where keys_before < $6 order by id`,
      [...viewParams(view), limit, MAX_KEYS],
    );
  }

  /** The keys of changed rows, as the driver gives the columns of the table, in the order of the log. */
  async readKeys(session: RelaySession, table: WatchedTable, schema: string, ids: readonly string[]): Promise<Row[]> {
    return session.query(
      `select ${table.keyColumns} from ${this.#table} as l cross join lateral jsonb_array_elements(l.keys) as k (value)
       ${typedKey(table, schema)} where l.id = any($1::bigint[]) order by l.id`,
      [ids],
    );
  }

  async remove(session: RelaySession, ids: readonly string[]): Promise<void> {
    await session.query(`delete from ${this.#table} where id = any($1::bigint[])`, [ids]);
  }

  /** How many rows of the log are in view; counted up to 100 000. */
  async count(session: RelaySession, view: LogView): Promise<number> {
    const [row] = await session.query<{ count: number }>(
      `select count(*)::int as count from (select from ${this.#table} where ${IN_VIEW} limit $5) as l`,
      [...viewParams(view), MAX_COUNTED],
    );
    return row!.count;
  }

  /** Throws away week-old rows of other tables than these: nobody caches them any more, and what was cached is gone. */
  async sweep(session: RelaySession, tables: readonly WatchedTable[]): Promise<void> {
    await session.query(
      `delete from ${this.#table} where id in (select id from ${this.#table}
         where not ${IS_KNOWN} and created_at < clock_timestamp() - make_interval(days => $4::int) limit $5)`,
      [...tableParams(tables), KEPT_DAYS, SWEPT],
    );
  }
}

/**
 * The keys in notifications, as the driver gives the columns of the table. The payloads stay text until PostgreSQL reads
 * them: JavaScript would round large numbers.
 */
export async function readNotifiedKeys(
  session: RelaySession,
  table: WatchedTable,
  schema: string,
  payloads: readonly string[],
): Promise<Row[]> {
  return session.query(
    `select ${table.keyColumns} from unnest($1::text[]) as p (payload)
     cross join lateral jsonb_array_elements(p.payload::jsonb -> 'k') as k (value) ${typedKey(table, schema)}`,
    [payloads],
  );
}

/**
 * Whether an error says that PostgreSQL can't read a table's keys (any more): the table or a column is gone or of
 * another type, or isn't ours to see.
 */
export function isAboutKeys(error: unknown): boolean {
  const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^(22|42|3F)/.test(code) && code.length === 5;
}

/**
 * The advisory lock that the active relay of a log holds, for `pg_try_advisory_lock(bigint)`.
 *
 * @param schema of the log table
 */
export function relayLockKey(schema: string): string {
  return lockKey('relay', schema);
}

/** The lock of the one stand-by that looks after changes which have been in the log for too long. */
export function helperLockKey(schema: string): string {
  return lockKey('relay-helper', schema);
}

function lockKey(name: string, schema: string): string {
  const hash = createHash('sha256').update(`mikro-orm-plus:${name}\0${schema}`);
  return hash.digest().readBigInt64BE(0).toString();
}

const HAS_KEYS = `coalesce(jsonb_typeof(keys) = 'array', false)`;

const IS_KNOWN = `(table_name = any($1::text[])
    or (table_schema, table_name) in (select k.s, k.t from unnest($2::text[], $3::text[]) as k (s, t)))`;

const IN_VIEW = `${IS_KNOWN}
  and ($4::float8 is null or created_at < clock_timestamp() - make_interval(secs => $4::float8))`;

function viewParams({ tables, minAgeMs }: LogView): unknown[] {
  return [...tableParams(tables), minAgeMs === undefined ? null : minAgeMs / 1_000];
}

function tableParams(tables: readonly WatchedTable[]): unknown[] {
  const anywhere = tables.filter(({ schema }) => schema === undefined);
  const somewhere = tables.filter(({ schema }) => schema !== undefined);
  return [anywhere.map(({ name }) => name), somewhere.map(({ schema }) => schema), somewhere.map(({ name }) => name)];
}

function typedKey(table: WatchedTable, schema: string): string {
  const record = `null::${identifier(schema)}.${identifier(table.name)}`;
  return `cross join lateral jsonb_populate_record(${record}, k.value) as "t0"`;
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
