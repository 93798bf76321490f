import type { UniqueKey } from '../natural-keys/unique-keys.js';
import { quote } from '../orm/metadata.js';
import type { Column, Sql } from '../orm/statement.js';
import { equalsAny } from './arrays.js';
import type { ByValue } from './by-value.js';
import { indexByKey, insertFrom, type NewRow } from './insert.js';
import { conflictTarget, fullRow, tableOf, type Target } from './parts.js';
import { keyList, ORDINAL } from './select.js';

/** A row to insert, and its columns. */
export interface NewColumns extends NewRow {
  readonly columns: readonly Column[];
}

/**
 * Inserts rows that several callers made, which give the same columns, as `insertRows` does. Waiting for one caller's key
 * must not hold up the others for long: the whole statement is refused when it has to wait for a lock for `patienceMs`.
 * The setting ends with the statement, as it is a transaction of its own.
 *
 * @param isExact whether rows may be told apart by the values of their key, as they were sent. It takes the database a
 *   third less time than to join them to their keys
 */
export function insertShared(
  target: Target,
  key: UniqueKey,
  rows: readonly NewColumns[],
  patienceMs: number,
  isExact = true,
): ByValue {
  const patience = patienceOf(patienceMs);
  return (
    (isExact ? insertByKey(target, key, rows, patience) : undefined) ?? {
      statement: insertJoined(target, key, rows, patience),
      indexOf: (row) => Number(row[ORDINAL]) - 1,
    }
  );
}

/**
 * {@link insertShared} for rows that nobody has looked for: it inserts nothing at all, and takes no number of a sequence,
 * when the key of any of them exists.
 *
 * @returns `undefined` for keys that their values can't tell apart, or of a part of the table
 */
export function insertIfNone(
  target: Target,
  key: UniqueKey,
  rows: readonly NewColumns[],
  patienceMs: number,
): ByValue | undefined {
  return key.predicate ? undefined : insertByKey(target, key, rows, patienceOf(patienceMs), true);
}

function patienceOf(milliseconds: number): string {
  return `(select set_config('lock_timeout', '${Math.ceil(milliseconds)}ms', true)) is not null`;
}

function insertByKey(
  target: Target,
  key: UniqueKey,
  rows: readonly NewColumns[],
  patience: string,
  isGuess = false,
): ByValue | undefined {
  const columns = rows.map((row) => row.columns);
  const indexOf = indexByKey(key, columns);
  const insert = indexOf && insertFrom(target, key, key, rows, columns, [], 0);
  if (!insert) return undefined;
  const { list, names, params } = insert;
  const column = key.columns[0]!;
  const none = isGuess ? [equalsAny(`"t1".${quote(column)}`, list.arrays![names.indexOf(column)]!)] : [];
  const guess = none.map(({ sql }) => ` and not exists (select from ${tableOf(target)} as "t1" where ${sql})`).join('');
  const sql = `${insert.into(`${list.sql} where ${patience}${guess}`)} returning ${fullRow(target)}`;
  return { statement: { sql, params: [...params, ...list.params, ...none.flatMap((each) => each.params)] }, indexOf };
}

function insertJoined(target: Target, key: UniqueKey, rows: readonly NewColumns[], patience: string): Sql {
  const names = rows[0]!.columns.map(({ name }) => name);
  const list = keyList(
    target,
    rows.map(({ columns }) => columns),
  );
  const given = names.map((_, index) => `"k"."__plus_k${index}"`);
  const raw = key.columns.map((column, index) => `"t0".${quote(column)} as "__plus_i${index}"`);
  const equal = key.nullsNotDistinct ? 'is not distinct from' : '=';
  const match = key.columns.map((column, index) => `"i"."__plus_i${index}" ${equal} ${given[names.indexOf(column)]}`);
  return {
    sql:
      `with "k" as (select * from ${list.sql} where "k".${quote(ORDINAL)} > 0), ` +
      `"i" as (insert into ${tableOf(target)} as "t0" (${names.map(quote).join(', ')}) ` +
      `select ${given.join(', ')} from "k" where ${patience} order by "k".${quote(ORDINAL)} ` +
      `${conflictTarget(key)} do nothing returning ${fullRow(target)}, ${raw.join(', ')}) ` +
      `select "i".*, "k".${quote(ORDINAL)} from "i" inner join "k" on ${match.join(' and ')}`,
    params: list.params,
  };
}
