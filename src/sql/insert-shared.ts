import type { UniqueKey } from '../natural-keys/unique-keys.js';
import { quote } from '../orm/metadata.js';
import type { Column, Sql } from '../orm/statement.js';
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
  const patience = `(select set_config('lock_timeout', '${Math.ceil(patienceMs)}ms', true)) is not null`;
  return (
    (isExact ? insertByKey(target, key, rows, patience) : undefined) ?? {
      statement: insertJoined(target, key, rows, patience),
      indexOf: (row) => Number(row[ORDINAL]) - 1,
    }
  );
}

function insertByKey(
  target: Target,
  key: UniqueKey,
  rows: readonly NewColumns[],
  patience: string,
): ByValue | undefined {
  const columns = rows.map((row) => row.columns);
  const indexOf = indexByKey(key, columns);
  const insert = indexOf && insertFrom(target, key, key, rows, columns, [], 0);
  if (!insert) return undefined;
  const sql = `${insert.into(`${insert.list.sql} where ${patience}`)} returning ${fullRow(target)}`;
  return { statement: { sql, params: [...insert.params, ...insert.list.params] }, indexOf };
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
