import type { UniqueKey } from '../natural-keys/unique-keys.js';
import { quote } from '../orm/metadata.js';
import { columnsOf, type Sql } from '../orm/statement.js';
import { equalsAny } from './arrays.js';
import type { ByValue } from './by-value.js';
import { insertByValue, type InsertGroup } from './insert.js';
import { conflictTarget, fullRow, tableOf, type Target } from './parts.js';
import { keyList, ORDINAL } from './select.js';

/**
 * Inserts rows that several callers made, which give the same columns, as `insertRows` does. Waiting for one caller's key
 * must not hold up the others for long: the whole statement is refused when it has to wait for a lock for `patienceMs`.
 * The setting ends with the statement, as it is a transaction of its own.
 *
 * @param isGuess whether nobody has looked for the rows: then nothing at all is inserted, and no number of a sequence
 *   taken, when the key of any of them exists
 * @returns `undefined` for a guess at keys that their values can't tell apart
 */
export function insertShared(
  target: Target,
  key: UniqueKey,
  rows: InsertGroup['rows'],
  patienceMs: number,
  isGuess: boolean,
): ByValue | undefined {
  const patience = `(select set_config('lock_timeout', '${patienceMs}ms', true)) is not null`;
  const conditionOf = (keys: Sql): Sql => {
    if (!isGuess) return { sql: patience, params: [] };
    const { sql, params } = equalsAny(`"t1".${quote(key.columns[0]!)}`, keys);
    return { sql: `${patience} and not exists (select from ${tableOf(target)} as "t1" where ${sql})`, params };
  };
  const byValue = insertByValue(target, { key, rows }, 0, conditionOf);
  if (byValue || isGuess) return byValue;
  return { statement: insertJoined(target, key, rows, patience), indexOf: (row) => Number(row[ORDINAL]) - 1 };
}

/** It takes the database a third more time than to tell rows apart by the values of their key. */
function insertJoined(target: Target, key: UniqueKey, rows: InsertGroup['rows'], patience: string): Sql {
  const columns = rows.map(({ payload }) => columnsOf(target.driver, target.meta, payload));
  const names = columns[0]!.map(({ name }) => name);
  const list = keyList(target, columns);
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
