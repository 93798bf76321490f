import { createHash } from 'node:crypto';
import {
  CHANGE_CHANNEL,
  CHANGE_LOG_TABLE,
  MAX_LOGGED_KEYS,
  MAX_NOTIFIED_BYTES,
  MAX_STATEMENT_KEYS,
  WATCHED_EVENTS,
  triggerName,
  type WatchedEvent,
} from '../invalidation/change-log.js';

/** A table to watch, and the log to write to. */
export interface WatchedTable {
  readonly table: string;
  /** `undefined`: found through `search_path`, as MikroORM writes tables of the default schema. */
  readonly schema: string | undefined;
  /** Columns of the primary key. */
  readonly primaryKey: readonly string[];
  readonly logSchema: string;
  /** The table's name in the log, where it isn't its own: the parent of a partition. */
  readonly logAs?: string | undefined;
  /** Whether changes are notified, too. Default: true. */
  readonly notify?: boolean | undefined;
}

/** The transition table, under a name that nobody else has. */
const CHANGED = 'plus_changed';

/** PostgreSQL cuts longer names, in bytes. */
const MAX_IDENTIFIER_BYTES = 63;

/** DDL that makes a trigger and its function, in order; done again it changes nothing. */
export function triggerUp(target: WatchedTable, event: WatchedEvent): string[] {
  const table = qualified(target.schema, target.table);
  const fn = qualified(target.schema, functionName(target.table, event));
  const name = identifier(triggerName(event));
  const body = event === 'truncate' ? truncateBody(target) : changesBody(target);
  return [
    // A writer may change the table without a right to the log, so the function has its owner's rights, and therefore a
    // fixed search_path: nothing that a caller can create is found through it.
    `create or replace function ${fn}() returns trigger language plpgsql security definer ` +
      `set search_path = pg_catalog, pg_temp as ${dollarQuoted(body)}`,
    // else any role could put the function on a table of its own, and have its owner read a view or call a cast of theirs
    `revoke all on function ${fn}() from public`,
    `create or replace trigger ${name} after ${EVENTS[event]} on ${table}${TRANSITION[event]} ` +
      `for each statement execute function ${fn}(${ARGUMENTS[event]})`,
    // also in sessions that turn ordinary triggers off (session_replication_role = replica)
    `alter table ${table} enable always trigger ${name}`,
  ];
}

/** DDL that removes a trigger and its function. */
export function triggerDown(target: Pick<WatchedTable, 'table' | 'schema'>, event: WatchedEvent): string[] {
  return [
    `drop trigger if exists ${identifier(triggerName(event))} on ${qualified(target.schema, target.table)}`,
    `drop function if exists ${qualified(target.schema, functionName(target.table, event))}()`,
  ];
}

/**
 * {@link triggerUp} for a table that exists in many schemas and whose schema the statement's writer isn't told: where
 * `search_path` names one (a migration run for one tenant), that one; else every table of that name that isn't watched.
 */
export function triggerUpEverywhere(
  target: Omit<WatchedTable, 'schema'>,
  event: WatchedEvent,
  defaultSchema: string,
): string[] {
  // The placeholder is quoted along with the names, and put in by format(): a schema's name can hold anything.
  const placeholder = '\u0001schema\u0001';
  const ddl = triggerUp({ ...target, schema: placeholder }, event)
    .join('; ')
    .replaceAll('%', '%%')
    .replaceAll(identifier(placeholder), '%1$I');
  const body = `declare
  tenant name;
begin
  for tenant in
    select n.nspname from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.oid = t.relnamespace
    where t.relname = ${literal(target.table)} and t.relkind in ('r', 'p') and not t.relispartition
      and case when pg_catalog.current_schema() = ${literal(defaultSchema)}
        then pg_catalog.pg_has_role(t.relowner, 'usage') and not exists (
          select from pg_catalog.pg_trigger g where g.tgrelid = t.oid and g.tgname = ${literal(triggerName(event))})
        else n.nspname = pg_catalog.current_schema() end
  loop
    execute pg_catalog.format(${dollarQuoted(ddl)}, tenant);
  end loop;
end`;
  return [`do ${dollarQuoted(body)}`];
}

const EVENTS: Record<WatchedEvent, string> = {
  update: 'update',
  delete: 'delete',
  // A trigger on TRUNCATE alone is in no information_schema, so MikroORM could neither see that it is there nor drop it.
  truncate: 'delete or truncate',
};

const TRANSITION: Record<WatchedEvent, string> = {
  update: ` referencing old table as ${CHANGED}`,
  delete: ` referencing old table as ${CHANGED}`,
  truncate: '',
};

/** Tells the function that its trigger has a transition table. */
const ARGUMENTS: Record<WatchedEvent, string> = { update: `'keys'`, delete: `'keys'`, truncate: '' };

/**
 * The name of a trigger's function: the one under which MikroORM drops it. Where that would be cut, and so be the same
 * for all triggers of the table, a hash keeps it apart.
 */
function functionName(table: string, event: WatchedEvent): string {
  const name = `${table}_${triggerName(event)}_fn`;
  if (Buffer.byteLength(name) <= MAX_IDENTIFIER_BYTES) return name;
  const suffix = `_${createHash('sha256').update(table).digest('hex').slice(0, 8)}_${triggerName(event)}_fn`;
  return cutBytes(table, MAX_IDENTIFIER_BYTES - suffix.length) + suffix;
}

function cutBytes(text: string, bytes: number): string {
  let cut = '';
  for (const character of text) {
    if (Buffer.byteLength(cut + character) > bytes) break;
    cut += character;
  }
  return cut;
}

/*
 * The bodies keep to MikroORM's schema generator: no blank lines, no comments, and no statement that relies on a line
 * break after its semicolon. What they call is of pg_catalog, and there are no operators but those of its types.
 *
 * A primary key column that was renamed, or a trigger recreated without its transition table, must not break everybody's
 * writes: the change is then logged without keys. Catching that error takes a subtransaction, and one that writes has a
 * transaction id of its own, so up to MAX_LOGGED_KEYS rows are logged by a statement in which neither can happen.
 *
 * A trigger that MikroORM recreates from what it finds in the database has neither arguments nor a transition table. Its
 * name must not be looked up then: it would be found among the writer's temporary tables, and a view's functions run with
 * the rights of the trigger's owner.
 */
function changesBody(target: WatchedTable): string {
  const name = loggedName(target);
  const insertWithoutKeys = `insert into ${logTable(target)} (table_schema, table_name) values (tg_table_schema, ${name});`;
  return `begin
  if tg_nargs > 0 then
    ${insertFew(target)}begin
      ${insertMany(target)};
      if not found then return null; end if;
    exception when undefined_column or undefined_table then
      ${insertWithoutKeys}
    end;
  else
    ${insertWithoutKeys}
  end if;
  ${target.notify === false ? '' : `perform ${notify(payload(name))};`}
  return null;
end`;
}

/** What plpgsql knows in a trigger by itself: a column of that name has to be qualified. */
const PLPGSQL_NAME = /^(?:found|new|old|tg_.*)$/;

/**
 * Logs and notifies a change of up to MAX_LOGGED_KEYS rows, in one statement since each costs some 10 µs; with no or more
 * rows it does nothing.
 *
 * A column that is gone from the table is found in `absent`, so that its keys are null and aren't counted; while it is there,
 * the planner removes `absent`. Nothing is notified that isn't logged: `offset 0` keeps the condition outside.
 */
function insertFew(target: WatchedTable): string {
  const columns = target.primaryKey.map(identifier);
  if (target.primaryKey.some((column) => PLPGSQL_NAME.test(column))) return '';
  const name = loggedName(target);
  const [first, ...others] = columns.map((column) => `pg_catalog.count(r.${column})`);
  const notified = notify(`case when pg_catalog.octet_length(a.keys) < ${MAX_NOTIFIED_BYTES}
        then ${payload(name, 'a.keys')} else ${payload(name)} end`);
  const counts = [`${first} between 1 and ${MAX_LOGGED_KEYS}`, ...others.map((count) => `${count} > 0`)];
  return `insert into ${logTable(target)} (table_schema, table_name, keys)
      select tg_table_schema, ${name}, a.keys::jsonb
      from (select pg_catalog.json_agg(r.*)::text as keys
        from (select ${columns.map((column) => `null::int as ${column}`).join(', ')}) absent
          cross join lateral (select ${columns.join(', ')} from ${CHANGED} limit ${MAX_LOGGED_KEYS + 1}) r
        having ${counts.join(' and ')} offset 0) a
      ${target.notify === false ? '' : `where ${notified} is not null`};
    if found then return null; end if;
    `;
}

/**
 * Logs the keys of a change of any size. They are collected into one array and written as JSON a slice at a time:
 * building each key as jsonb takes four times as long. A pretty-printed array separates its elements by a line break,
 * which JSON text has nowhere else, so that scalars become objects by a plain replacement.
 */
function insertMany(target: WatchedTable): string {
  const columns = target.primaryKey.map((column) => `c.${identifier(column)}`).join(', ');
  const [first] = target.primaryKey;
  const isSingle = target.primaryKey.length === 1;
  const element = isSingle ? `r.${identifier(first!)}` : 'r.*';
  const opening = `{${JSON.stringify(first)}:`;
  const slice = `keys[g : g + ${MAX_LOGGED_KEYS - 1}]`;
  const json = isSingle
    ? `(${literal(`[${opening}`)} || pg_catalog.replace(pg_catalog.substr(s.part, 2, pg_catalog.length(s.part) - 2), ` +
      `E',\\n ', ${literal(`},${opening}`)}) || '}]')::jsonb`
    : 's.part::jsonb';
  return `insert into ${logTable(target)} (table_schema, table_name, keys)
        select tg_table_schema, ${loggedName(target)}, ${json}
        from (select case when pg_catalog.cardinality(a.keys) <= ${MAX_STATEMENT_KEYS}
            then pg_catalog.array_to_json(a.${slice}, ${isSingle})::text end as part
          from (select pg_catalog.array_agg(${element}) as keys
            from (select ${columns} from ${CHANGED} c limit ${MAX_STATEMENT_KEYS + 1}) r offset 0) a,
            pg_catalog.generate_series(1, case when pg_catalog.cardinality(a.keys) > ${MAX_STATEMENT_KEYS}
              then 1 else pg_catalog.cardinality(a.keys) end, ${MAX_LOGGED_KEYS}) g) s`;
}

function truncateBody(target: WatchedTable): string {
  const name = loggedName(target);
  return `begin
  if tg_op = 'TRUNCATE' then
    insert into ${logTable(target)} (table_schema, table_name) values (tg_table_schema, ${name});
    ${target.notify === false ? '' : `perform ${notify(payload(name))};`}
  end if;
  return null;
end`;
}

function notify(text: string): string {
  return `pg_catalog.pg_notify(${literal(CHANGE_CHANNEL)}, ${text})`;
}

/** JSON; `keys` is JSON text. */
function payload(name: string, keys?: string): string {
  const json = (text: string): string => `pg_catalog.to_json(${text}::text)`;
  const [form, more] = keys === undefined ? ['', ''] : [',"k":%s', `, ${keys}`];
  return `pg_catalog.format('{"s":%s,"t":%s${form}}', ${json('tg_table_schema')}, ${json(name)}${more})`;
}

function loggedName(target: WatchedTable): string {
  return target.logAs === undefined ? 'tg_table_name' : literal(target.logAs);
}

function logTable(target: WatchedTable): string {
  return qualified(target.logSchema, CHANGE_LOG_TABLE);
}

/** The triggers of a table, in the order in which they are made. */
export const events: readonly WatchedEvent[] = WATCHED_EVENTS;

/** A name, with its schema unless that is left to `search_path`. */
export function qualified(schema: string | undefined, name: string): string {
  return schema === undefined ? identifier(name) : `${identifier(schema)}.${identifier(name)}`;
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Text as SQL, in PostgreSQL's form without escapes whatever `standard_conforming_strings` says. */
function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes('\\') ? `E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}

/** A body between dollar signs, with a tag that isn't in it. */
function dollarQuoted(body: string): string {
  let tag = 'plus';
  while (body.includes(`$${tag}$`)) tag += '_';
  return `$${tag}$ ${body} $${tag}$`;
}
