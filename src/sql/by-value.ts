import type { Prop } from '../orm/metadata.js';
import type { Sql } from '../orm/statement.js';

/** A statement whose rows tell by the value of one column what they answer. */
export interface ByValue {
  readonly statement: Sql;
  /** `undefined` for a row that has none of the values as they were given. */
  readonly indexOf: (row: Readonly<Record<string, unknown>>) => number | undefined;
}

/**
 * Types whose values come back from the database as they went there, and of which different values differ there too. But
 * for text that is asked for: some collations find different texts equal.
 */
const exact: readonly (readonly [types: RegExp, isOwn: (value: unknown) => boolean])[] = [
  [/^(text|(varchar|character varying)(\s*\(\d+\))?)$/i, (value) => typeof value === 'string'],
  [/^(smallint|int2|smallserial|int|integer|int4|serial)$/i, (value) => Number.isInteger(value)],
];

/** Finds the index of a row among distinct values of a property; `undefined` where only the database can tell. */
export function indexByValue(prop: Prop, values: readonly unknown[]): ByValue['indexOf'] | undefined {
  if (prop.customType || prop.lazy || prop.targetMeta || prop.fieldNames.length !== 1) return undefined;
  const isOwn = exact.find(([types]) => types.test(prop.columnTypes[0]!))?.[1];
  if (!isOwn || !values.every(isOwn)) return undefined;
  const column = prop.fieldNames[0]!;
  const indexes = new Map<unknown, number>();
  for (const [index, value] of values.entries()) indexes.set(value, index);
  return indexes.size === values.length ? (row) => indexes.get(row[column]) : undefined;
}
