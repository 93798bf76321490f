import type { Lookup } from '../natural-keys/lookup.js';
import type { LookupPlan } from '../natural-keys/plan.js';
import { quote } from '../orm/metadata.js';
import type { Column, Sql } from '../orm/statement.js';
import { columnArrays, equalsAny, numberArray, unnested } from './arrays.js';
import { indexByValue, type ByValue } from './by-value.js';
import {
  aliased,
  equals,
  fullRow,
  indexConditions,
  kindConditions,
  lookupColumns,
  tableOf,
  typedNull,
  type Target,
} from './parts.js';

/** The name of the column that tells which lookup of a batch a row answers. */
export const ORDINAL = '__plus_o';

/** Tells in a row that has a lookup's unique key whether it matches the rest of the lookup too; absent without a rest. */
export const MATCHES = '__plus_m';

/** Columns asked for in addition to the row, e.g. what the server says about the transaction. */
export type Extra = string;

/**
 * Selects the full rows that have the unique keys of lookups of one shape, and tells by {@link MATCHES} which of them are
 * the rows looked for. Two rows per lookup are enough to notice that one isn't enough of a key, so a single lookup stops
 * there.
 */
export function selectRows(target: Target, plan: LookupPlan, lookups: readonly Lookup[], extra: Extra = ''): Sql {
  return lookups.length === 1 ? selectOne(target, plan, lookups[0]!, extra) : selectBatch(target, plan, lookups, extra);
}

function selectOne(target: Target, plan: LookupPlan, lookup: Lookup, extra: Extra): Sql {
  const columns = lookupColumns(target, lookup);
  const isKey = isKeyColumn(plan);
  const where = [...columns.filter(isKey).map(equals), ...indexConditions(plan)];
  const rest = restOf([...columns.filter((column) => !isKey(column)).map(equals), ...kindConditions(target)], plan);
  if (!plan.key) where.push(...rest.conditions);
  return {
    sql:
      `select ${fullRow(target)}, 1 as ${quote(ORDINAL)}${rest.column}${extra} from ${tableOf(target)} as "t0"` +
      `${whereOf(where)} limit 2`,
    params: [...rest.params, ...where.flatMap(({ params }) => params)],
  };
}

function selectBatch(target: Target, plan: LookupPlan, lookups: readonly Lookup[], extra: Extra): Sql {
  const rows = lookups.map((lookup) => lookupColumns(target, lookup));
  const keys = keyList(target, rows);
  const isKey = isKeyColumn(plan);
  const matchOf = (wanted: boolean): Sql[] =>
    keys.matches.filter((_, index) => isKey(rows[0]![index]!) === wanted).map((sql) => ({ sql, params: [] }));
  const rest = restOf([...matchOf(false), ...kindConditions(target)], plan);
  const where = plan.key ? [...anyOf(plan, keys, rows[0]!), ...indexConditions(plan)] : rest.conditions;
  const match = [`"k".${quote(ORDINAL)} > 0`, ...matchOf(true).map(({ sql }) => sql)].join(' and ');
  return {
    sql:
      `select ${fullRow(target)}, "k".${quote(ORDINAL)}${rest.column}${extra} from ${keys.sql} ` +
      `inner join ${tableOf(target)} as "t0" on ${match}${whereOf(where)}`,
    params: [...rest.params, ...keys.params, ...where.flatMap(({ params }) => params)],
  };
}

/**
 * {@link selectRows} for several lookups by a unique key of one column alone, if that can be: without a list of the keys to
 * join, the database and the network have half as much to do.
 */
export function selectByValue(
  target: Target,
  plan: LookupPlan,
  lookups: readonly Lookup[],
  extra: Extra = '',
): ByValue | undefined {
  const isOfKey = plan.key?.columns.length === 1 && lookups[0]!.parts.length === 1;
  if (!isOfKey || kindConditions(target).length > 0) return undefined;
  const prop = plan.key.props[0]!;
  const indexOf = indexByValue(
    prop,
    lookups.map(({ parts }) => parts[0]!.value),
  );
  if (!indexOf) return undefined;
  const name = prop.fieldNames[0]!;
  const [array] =
    columnArrays(
      target,
      lookups.map(({ parts }) => [{ name, value: parts[0]!.value }]),
      0,
    ) ?? [];
  if (!array) return undefined;
  const where = [equalsAny(aliased(name), array), ...indexConditions(plan)];
  const sql = `select ${fullRow(target)}${extra} from ${tableOf(target)} as "t0"${whereOf(where)}`;
  return { statement: { sql, params: where.flatMap(({ params }) => params) }, indexOf };
}

/**
 * A join with many keys may make PostgreSQL read the whole table; this, what the index has of them. Keys of several columns
 * have no such condition: it would look for every combination of their values.
 */
function anyOf({ key }: LookupPlan, { arrays }: KeyList, columns: readonly Column[]): Sql[] {
  if (key!.columns.length !== 1) return [];
  const index = columns.findIndex(({ name, value }) => name === key!.columns[0] && value !== null);
  const array = arrays?.[index];
  return array ? [equalsAny(aliased(columns[index]!.name), array)] : [];
}

/** The columns that a unique key decides by; all of them where there is none. */
function isKeyColumn({ key }: LookupPlan): (column: Column) => boolean {
  return ({ name }) => !key || key.columns.includes(name);
}

/** The conditions beside the key: of a row that has the key they are told, and don't hide that the key is taken. */
function restOf(
  conditions: readonly Sql[],
  { key }: LookupPlan,
): { conditions: readonly Sql[]; column: string; params: unknown[] } {
  if (!key || conditions.length === 0) return { conditions, column: '', params: [] };
  const column = `, (${conditions.map(({ sql }) => sql).join(' and ')}) as ${quote(MATCHES)}`;
  return { conditions, column, params: conditions.flatMap(({ params }) => params) };
}

function whereOf(conditions: readonly Sql[]): string {
  return conditions.length > 0 ? ` where ${conditions.map(({ sql }) => sql).join(' and ')}` : '';
}

/** A list of key values as a relation `k`, and the condition that joins the entity's table to it. */
export interface KeyList extends Sql {
  readonly match: string;
  /** The parts of `match` by column. */
  readonly matches: readonly string[];
  /** The values of each column as an array, if that can be. */
  readonly arrays: readonly Sql[] | undefined;
  /** The column that tells the order of the rows, where the list is made of arrays. */
  readonly position: string;
}

/** The number of a row within its {@link KeyList}, where that isn't its ordinal. */
const POSITION = '__plus_n';

/**
 * Writes the keys of lookups of one shape as a relation `k`: of arrays, or as `(values …)` whose first row is a null of
 * each column's own type, from which PostgreSQL types the literals below it. No type name is repeated here, and nothing is
 * cut to a length.
 */
export function keyList(
  target: Target,
  rows: readonly (readonly Column[])[],
  ordinals: readonly number[] = rows.map((_, index) => index + 1),
  fewest?: number,
): KeyList {
  const columns = rows[0]!;
  const names = columns.map((_, index) => `__plus_k${index}`);
  const matches = columns.map(({ name, value }, index) =>
    value === null ? `${aliased(name)} is null` : `${aliased(name)} = "k"."__plus_k${index}"`,
  );
  const arrays = columnArrays(target, rows, fewest);
  const isCounted = ordinals.every((ordinal, index) => ordinal === index + 1);
  const relation = !arrays
    ? valuesOf(target, rows, ordinals, [ORDINAL, ...names])
    : isCounted
      ? unnested(arrays, '"k"', [...names, ORDINAL])
      : unnested([numberArray(ordinals), ...arrays], '"k"', [ORDINAL, ...names, POSITION]);
  const match = [`"k".${quote(ORDINAL)} > 0`, ...matches].join(' and ');
  return { ...relation, match, matches, arrays, position: isCounted ? ORDINAL : POSITION };
}

function valuesOf(
  target: Target,
  rows: readonly (readonly Column[])[],
  ordinals: readonly number[],
  names: readonly string[],
): Sql {
  const columns = rows[0]!;
  const typed = columns.map(({ name }) => `, ${typedNull(target, name)}`).join('');
  const placeholders = columns.map(() => ', ?').join('');
  const values = ordinals.map((ordinal) => `(${ordinal}${placeholders})`);
  return {
    sql: `(values (0${typed}), ${values.join(', ')}) as "k" (${names.map(quote).join(', ')})`,
    params: rows.flatMap((row) => row.map(({ value }) => value)),
  };
}
