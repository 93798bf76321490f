import { planFor } from '../natural-keys/plan.js';
import { canonical } from '../orm/canonical.js';
import { quote } from '../orm/metadata.js';
import { columnsOf, isSqlFragment, type Sql } from '../orm/statement.js';
import { insertGroup } from './insert.js';
import { aliased, kindConditions, lookupColumns, tableOf, type Target } from './parts.js';
import { CREATED, LOCKED, primaryKeyOf, UpsertGroup, WRITTEN_AT, type Upsert } from './UpsertGroup.js';

/**
 * Changes rows, or inserts them, in one statement; returns the full rows with their ordinals and {@link CREATED}.
 *
 * A single row: its key and values (`k`), the update of the existing row (`u`), the new row (`n`), and its insert when
 * `u` found nothing (`i`). A row that appears between the two takes `i`'s `do update`. So an existing row costs no
 * sequence value, and misses no value that only a new row needs.
 *
 * A batch must not deadlock with others that overlap it. So it first inserts what is missing, in the order given, then
 * locks what was there in the order of primary keys, and updates it: while it waits to insert it holds no lock but on
 * rows that nobody else can see, and while it waits for a lock all others that hold one took theirs in the same order.
 * When another writer was first with a row that was to be inserted, nothing is locked and updated: such rows, and all
 * that existed, come back missing, to be tried again by a statement that sees them.
 *
 * The rows of a batch must be alike ({@link areAlike}), or each be known to be missing or to exist (no `payload`): an
 * insert that picks the missing rows itself has no `default` for columns that only some of them name.
 */
export function upsertRows(target: Target, upserts: readonly Upsert[]): Sql {
  const [first] = upserts;
  return upserts.length === 1 && !first!.isMissing
    ? new UpsertGroup(target, upserts, 0).single()
    : upsertBatch(target, upserts);
}

/** Whether the statement of a batch can find out by itself which rows exist: their keys and columns are the same. */
export function areAlike(target: Target, upserts: readonly Upsert[]): boolean {
  const [first] = upserts;
  if (!first) return true;
  const { key } = planFor(target.driver, first.lookup);
  // a key that belongs to a row which differs in the rest must be known before anything is written
  const rest = lookupColumns(target, first.lookup).some(({ name }) => key && !key.columns.includes(name));
  if (upserts.length > 1 && (rest || kindConditions(target).length > 0)) return false;
  const kindOf = (upsert: Upsert): string =>
    JSON.stringify([groupOf(target, upsert, 'each'), columnNames(target, upsert.payload), upsert.renames]);
  const kind = kindOf(first);
  return upserts.every((upsert) => kindOf(upsert) === kind);
}

function columnNames(target: Target, data: Readonly<Record<string, unknown>> = {}): string[] {
  return columnsOf(target.driver, target.meta, { ...data }).map(({ name }) => name);
}

function upsertBatch(target: Target, upserts: readonly Upsert[]): Sql {
  const missing = insertMissing(
    target,
    upserts.filter(({ isMissing }) => isMissing),
  );
  const groups = groupsOf(
    target,
    upserts.filter(({ isMissing }) => !isMissing),
  );
  const inserts = [...groups.map((group) => group.inserts()), ...missing.map(({ insert }) => insert)];
  const noneLost = [...groups.flatMap((group) => group.noneLost ?? []), ...missing.map((insert) => insert.noneLost)];
  const lock = groups.length > 0 ? [lockExisting(target, groups, noneLost)] : [];
  const updates = groups.map((group) => group.updates());
  const ctes = [...inserts.map(({ sql }) => sql), ...lock, ...updates.map(({ sql }) => sql)];
  const selects = [...groups.map((group) => group.selects()), ...missing.map(({ select }) => select.sql)];
  return {
    sql: `with ${ctes.join(', ')} ${selects.join(' union all ')}`,
    params: [...inserts, ...updates, ...missing.map(({ select }) => select)].flatMap(({ params }) => params),
  };
}

/** Inserts of rows that a look didn't find; those of one unique key follow each other in the order given. */
function insertMissing(target: Target, upserts: readonly Upsert[]): { insert: Sql; select: Sql; noneLost: string }[] {
  const keyOf = ({ lookup }: Upsert) => planFor(target.driver, lookup).key;
  const groups = Map.groupBy(upserts, (upsert) => JSON.stringify([keyOf(upsert)!.columns, upsert.renames]));
  return [...groups.values()].map((rows, index) => {
    const name = `__plus_m${index}`;
    const group = {
      key: keyOf(rows[0]!),
      isPlain: rows[0]!.renames,
      rows: rows.map(({ ordinal, lookup, payload }) => ({ ordinal, lookup, payload: payload! })),
    };
    return {
      ...insertGroup(target, group, name, `, true as ${quote(CREATED)}, 0::bigint as ${quote(WRITTEN_AT)}`),
      noneLost: `(select count(*) from ${quote(name)}) = ${rows.length}`,
    };
  });
}

/** Locks the existing rows of all groups in the order of their primary keys, unless an insert was too late. */
function lockExisting(target: Target, groups: readonly UpsertGroup[], noneLost: readonly string[]): string {
  const key = primaryKeyOf(target);
  const names = key.map((_, index) => `"__plus_p${index}"`).join(', ');
  const existing = groups.map((group) => `select ${names} from ${group.existing}`).join(' union ');
  const match = key.map((column, index) => `"e"."__plus_p${index}" = ${aliased(column)}`).join(' and ');
  // a statement changes a row once: with two lookups for one row it would drop the changes of one of them
  const all = groups.map((group) => `select ${names} from ${group.existing}`).join(' union all ');
  const isOnce = `(select count(*) = count(distinct (${names})) from (${all}) as "e")`;
  // a stronger lock than the update takes would wait for every row that refers to this one
  const strength = groups.some((group) => group.changesKey) ? 'update' : 'no key update';
  return (
    `${LOCKED} as materialized (select ${key.map((column, index) => `${aliased(column)} as "__plus_p${index}"`).join(', ')} ` +
    `from ${tableOf(target)} as "t0" inner join (${existing}) as "e" on ${match} ` +
    `where ${[...noneLost, isOnce].join(' and ')} order by ${key.map(aliased).join(', ')} for ${strength} of "t0")`
  );
}

/** The most kinds of changes that are updated by statements of their own. */
const MOST_KINDS = 8;

/** Rows with the same keys and changed columns are a group; when that makes too many, columns may differ within one. */
function groupsOf(target: Target, upserts: readonly Upsert[]): UpsertGroup[] {
  let groups = Map.groupBy(upserts, (upsert) => groupOf(target, upsert, 'each'));
  if (groups.size > MOST_KINDS) groups = Map.groupBy(upserts, (upsert) => groupOf(target, upsert, 'together'));
  return [...groups.values()].map((rows, index) => new UpsertGroup(target, rows, index));
}

/** SQL among the values stands where it is assigned, so rows of a group share it. */
function groupOf(target: Target, { lookup, changes, payload }: Upsert, kinds: 'each' | 'together'): string {
  const sql = Object.entries(changes).filter(([, value]) => isSqlFragment(value));
  const columns = kinds === 'each' ? columnNames(target, changes) : columnNames(target, Object.fromEntries(sql));
  return JSON.stringify([lookup.shape, columns, canonical(sql), payload !== undefined]);
}
