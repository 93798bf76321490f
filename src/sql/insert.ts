import type { Lookup } from '../natural-keys/lookup.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import { quote } from '../orm/metadata.js';
import { columnsOf, type Column, type Sql } from '../orm/statement.js';
import {
  conflictTarget,
  equals,
  fullRow,
  kindConditions,
  lookupColumns,
  rowColumns,
  tableOf,
  type Target,
} from './parts.js';
import { keyList, ORDINAL, type KeyList } from './select.js';
import { indexByValue, type ByValue } from './by-value.js';

/** The row to insert for one lookup: property-keyed values in database form. */
interface NewRow {
  readonly payload: Readonly<Record<string, unknown>>;
  readonly lookup: Lookup;
  /** Comes back with the inserted row. */
  readonly ordinal: number;
}

/** Rows whose races the same unique key decides. Without a key it is a plain insert. */
export interface InsertGroup {
  readonly key: UniqueKey | undefined;
  readonly rows: readonly NewRow[];
  /** Whether a taken key is an error all the same. Default: false. */
  readonly isPlain?: boolean;
  /**
   * Whether a single row's taken key gives the row that has it, if that matches the lookup; {@link FOUND} tells it from a
   * new one. For PostgreSQL 19 and later. Default: false.
   */
  readonly findsTaken?: boolean;
}

/** Tells a row that was there from one that was inserted; absent where only inserted rows come back. */
export const FOUND = '__plus_f';

/**
 * Inserts rows unless their unique key is taken, and returns the full rows that were inserted with their ordinals. A
 * taken key is no error and leaves an enclosing transaction alive; a conflict with another constraint is an error, as
 * in a plain insert. All groups are one statement, so all of it is stored or nothing.
 */
export function insertRows(target: Target, groups: readonly InsertGroup[]): Sql {
  const [first] = groups;
  if (groups.length === 1 && first!.rows.length === 1) return insertOne(target, first!);
  const parts = groups.map((group, index) => insertGroup(target, group, `i${index}`));
  return {
    sql: `with ${parts.map(({ insert }) => insert.sql).join(', ')} ${parts.map(({ select }) => select.sql).join(' union all ')}`,
    params: [...parts.flatMap(({ insert }) => insert.params), ...parts.flatMap(({ select }) => select.params)],
  };
}

function insertOne(target: Target, group: InsertGroup): Sql {
  const row = group.rows[0]!;
  const columns = [columnsOf(target.driver, target.meta, row.payload)];
  const insert = insertInto(target, group.key, columns, group.findsTaken ? 'select' : 'nothing');
  const returning = ` returning ${fullRow(target)}, ${row.ordinal} as ${quote(ORDINAL)}`;
  if (!group.key || !group.findsTaken) return { sql: insert.sql + returning, params: insert.params };
  const primaryKey = target.meta.root.getPrimaryProps()[0]!.fieldNames[0]!;
  const matches = [...lookupColumns(target, row.lookup).map(equals), ...kindConditions(target)];
  return {
    sql:
      `${insert.sql} where ${matches.map(({ sql }) => sql).join(' and ')}` +
      `${returning}, old.${quote(primaryKey)} is not null as ${quote(FOUND)}`,
    params: [...insert.params, ...matches.flatMap(({ params }) => params)],
  };
}

/**
 * {@link insertRows} for rows with a unique key of one column, if that can be: no list of the keys is needed to tell the
 * rows apart.
 *
 * @param fewest rows that it is done for
 * @param conditionOf what must hold for anything to be inserted, given the array of the keys
 */
export function insertByValue(
  target: Target,
  { key, rows, isPlain }: InsertGroup,
  fewest?: number,
  conditionOf?: (keys: Sql) => Sql,
): ByValue | undefined {
  if (key?.columns.length !== 1 || isPlain || rows.length === 1) return undefined;
  const [name] = key.columns;
  const columns = rows.map((row) => columnsOf(target.driver, target.meta, row.payload));
  const valueOf = (row: readonly Column[]): unknown => row.find((column) => column.name === name)?.value;
  const indexOf = indexByValue(key.props[0]!, columns.map(valueOf));
  const insert = indexOf && insertFrom(target, key, key, rows, columns, [], fewest);
  if (!insert) return undefined;
  const { list, names, into, params } = insert;
  const condition = conditionOf?.(list.arrays![names.indexOf(name!)]!);
  const sql = `${into(list.sql + (condition ? ` where ${condition.sql}` : ''))} returning ${fullRow(target)}`;
  // the values that all rows have in common stand before the list
  return { statement: { sql, params: [...params, ...list.params, ...(condition?.params ?? [])] }, indexOf };
}

/** The insert of a group as a `with` query, and the select of the rows that it inserted. */
interface GroupInsert {
  readonly insert: Sql;
  readonly select: Sql;
}

/**
 * `returning` can't name the input row that an inserted row came from, so the rows are joined to their keys again: by
 * the database, which alone knows when two values of a type are equal.
 *
 * @param extra further columns of the select
 */
export function insertGroup(
  target: Target,
  { key, rows, isPlain }: InsertGroup,
  name: string,
  extra = '',
): GroupInsert {
  const columns = rows.map((row) => columnsOf(target.driver, target.meta, row.payload));
  const conflict = isPlain ? undefined : key;
  const { insert, keys, names } =
    insertArrays(target, key!, conflict, rows, columns, name) ??
    insertValues(target, key!, conflict, rows, columns, name);
  const raw = key!.columns.map((column, index) => `"t0".${quote(column)} as "__plus_i${index}"`).join(', ');
  const equal = key!.nullsNotDistinct ? 'is not distinct from' : '=';
  const match = key!.columns
    .map((column, index) => `"${name}"."__plus_i${index}" ${equal} "k"."__plus_k${names.indexOf(column)}"`)
    .join(' and ');
  const list = rowColumns(target)
    .map((column) => `"${name}".${quote(column)}`)
    .join(', ');
  return {
    insert: { sql: `${insert.sql} returning ${fullRow(target)}, ${raw})`, params: insert.params },
    select: {
      sql:
        `select ${list}, "k".${quote(ORDINAL)}${extra} from "${name}" ` +
        `inner join ${keys.sql} on "k".${quote(ORDINAL)} > 0 and ${match}`,
      params: keys.params,
    },
  };
}

/** An insert up to its `returning`, and the relation `k` of the keys to expect, whose columns are numbered as `names` are. */
interface KeyedInsert {
  readonly insert: Sql;
  readonly keys: Sql;
  readonly names: readonly string[];
}

/** Rows that name the same columns, as arrays that serve as their keys too; `undefined` when that can't be. */
function insertArrays(
  target: Target,
  key: UniqueKey,
  conflict: UniqueKey | undefined,
  rows: readonly NewRow[],
  columns: readonly (readonly Column[])[],
  name: string,
): KeyedInsert | undefined {
  const generated = key.columns.filter((column) => columns[0]!.every((given) => given.name !== column));
  const keys = `"${name}_k"`;
  const insert = insertFrom(target, key, conflict, rows, columns, generated);
  if (!insert) return undefined;
  const { list, names, into } = insert;
  return {
    insert: {
      sql: `${keys} as materialized (select * from ${list.sql}), "${name}" as (${into(`${keys} as "k"`)}`,
      params: [...list.params, ...insert.params],
    },
    keys: { sql: `${keys} as "k"`, params: [] },
    names,
  };
}

/** An insert of the rows of a list, and what all rows have in common. */
interface ListInsert {
  readonly list: KeyList;
  /** What the columns of the list are for. */
  readonly names: readonly string[];
  /** The insert up to its `returning`, given where the list is found. */
  readonly into: (from: string) => string;
  readonly params: readonly unknown[];
}

function insertFrom(
  target: Target,
  key: UniqueKey,
  conflict: UniqueKey | undefined,
  rows: readonly NewRow[],
  columns: readonly (readonly Column[])[],
  generated: readonly string[],
  fewest?: number,
): ListInsert | undefined {
  const given = columns[0]!.map((column) => column.name);
  if (given.length === 0 || !columns.every((row) => isOfColumns(row, given))) return undefined;
  const varying = [...given.keys()].filter((index) => key.columns.includes(given[index]!) || varies(columns, index));
  const list = keyList(
    target,
    columns.map((row, index) => [
      ...varying.map((at) => row[at]!),
      ...(generated.length > 0 ? expectedOf(target, generated, row, rows[index]!) : []),
    ]),
    rows.map(({ ordinal }) => ordinal),
    fewest,
  );
  if (!list.arrays) return undefined;
  const values = given.map((_, index) => (varying.includes(index) ? `"k"."__plus_k${varying.indexOf(index)}"` : '?'));
  return {
    list,
    names: [...varying.map((index) => given[index]!), ...generated],
    into: (from) =>
      `insert into ${tableOf(target)} as "t0" (${given.map(quote).join(', ')}) select ${values.join(', ')} ` +
      `from ${from} order by "k".${quote(list.position)}${yielding(conflict)}`,
    params: columns[0]!.filter((_, index) => !varying.includes(index)).map(({ value }) => value),
  };
}

/** Whether a column may have different values in different rows. */
function varies(rows: readonly (readonly Column[])[], index: number): boolean {
  const { value } = rows[0]![index]!;
  return (typeof value === 'object' && value !== null) || rows.some((row) => row[index]!.value !== value);
}

function insertValues(
  target: Target,
  key: UniqueKey,
  conflict: UniqueKey | undefined,
  rows: readonly NewRow[],
  columns: readonly (readonly Column[])[],
  name: string,
): KeyedInsert {
  const insert = insertInto(target, conflict, columns);
  const keys = keyList(
    target,
    columns.map((row, index) => expectedOf(target, key.columns, row, rows[index]!)),
    rows.map(({ ordinal }) => ordinal),
  );
  return { insert: { sql: `"${name}" as (${insert.sql}`, params: insert.params }, keys, names: key.columns };
}

function isOfColumns(row: readonly Column[], names: readonly string[]): boolean {
  return row.length === names.length && row.every(({ name }, index) => name === names[index]);
}

/** What an inserted row will have in some columns: a generated one is nothing to insert, and only the lookup tells. */
function expectedOf(target: Target, names: readonly string[], row: readonly Column[], { lookup }: NewRow): Column[] {
  const known = [...row, ...lookupColumns(target, lookup)];
  return names.map((name) => ({ name, value: known.find((column) => column.name === name)?.value ?? null }));
}

function insertInto(
  target: Target,
  key: UniqueKey | undefined,
  rows: readonly (readonly Column[])[],
  onTaken = 'nothing',
): Sql {
  const names = [...new Set(rows.flatMap((row) => row.map(({ name }) => name)))];
  const params: unknown[] = [];
  const tuples = rows.map((row) => {
    const values = new Map(row.map(({ name, value }) => [name, value]));
    const items = names.map((name) => (values.has(name) ? (params.push(values.get(name)), '?') : 'default'));
    return `(${items.join(', ')})`;
  });
  const columns =
    names.length > 0 ? ` (${names.map(quote).join(', ')}) values ${tuples.join(', ')}` : ' default values';
  return { sql: `insert into ${tableOf(target)} as "t0"${columns}${yielding(key, onTaken)}`, params };
}

function yielding(key: UniqueKey | undefined, onTaken = 'nothing'): string {
  return key ? ` ${conflictTarget(key)} do ${onTaken}` : '';
}
