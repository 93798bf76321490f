import type { Platform } from '@mikro-orm/core';
import { quote, type Meta } from '../orm/metadata.js';
import { longText, type Column, type Sql } from '../orm/statement.js';
import { typedNull, type Target } from './parts.js';

/** Fewer rows are planned faster as `values`. */
const FEW = 50;

/** The numbers that a column holds as they are, by the type that metadata declares. */
const numbers: readonly (readonly [types: RegExp, isOwn: (value: number) => boolean])[] = [
  [/^(smallint|int2|smallserial)$/i, (value) => Number.isInteger(value) && Math.abs(value) <= 32_767],
  [/^(int|integer|int4|serial)$/i, (value) => Number.isInteger(value) && Math.abs(value) <= 2_147_483_647],
  [/^(bigint|int8|bigserial)$/i, Number.isSafeInteger],
  [/^(double precision|float8?|(numeric|decimal)(\s*\(.*\))?)$/i, Number.isFinite],
];

/**
 * Types whose values an array holds as they are, one to an item. Of a type that isn't known here nobody can tell: its
 * items may be parted by something else than a comma (`box`, PostGIS), it may be an array under a name of its own, or
 * a composite, which `unnest` takes apart.
 */
const listable = new RegExp(
  '^(bigint|bigserial|bit|bool|boolean|bpchar|bytea|char|character|cidr|citext|date|decimal|double precision|float[48]?|' +
    'inet|int[248]?|integer|interval|jsonb?|macaddr8?|money|numeric|real|serial|smallint|smallserial|text|timestamp(tz)?|' +
    'time(tz)?|(date|int[48]|num|ts|tstz)(multi)?range|uuid|varbit|varchar)(?![\\w.])(?!.*(\\]|\\barray)$)',
  'i',
);

/** Makes the text of a value, or `undefined` for one that only a literal of its own can say. */
type Writer = (value: unknown, platform: Platform) => string | undefined;

/** The writers of an entity's columns, by column. */
const writers = new WeakMap<Meta, ReadonlyMap<string, Writer>>();

/**
 * Columns of values as arrays, each of which is one literal that PostgreSQL reads at once: `values` of as many rows cost
 * it several times as much. An empty array of a column's own type says what the text is to be read as, so that no type
 * name is repeated, and nothing is cut to a length.
 *
 * @param fewest rows that arrays are made of
 * @returns an array for each column; `undefined` when one has values that a literal of their own might say otherwise:
 *   SQL of the application's, lists, objects, numbers that aren't of the column's type, types that aren't known here
 */
export function columnArrays(target: Target, rows: readonly (readonly Column[])[], fewest = FEW): Sql[] | undefined {
  if (rows.length < fewest) return undefined;
  const arrays: Sql[] = [];
  for (const [index, { name }] of rows[0]!.entries()) {
    const text = arrayText(target, name, rows, index);
    if (text === undefined) return undefined;
    arrays.push({ sql: `array_fill(${typedNull(target, name)}, '{0}') || ?`, params: [longText(text)] });
  }
  return arrays;
}

/** Equality of a column with any of the texts in an array literal, as with a literal of one of them. */
export function equalsAny(column: string, { params }: Sql): Sql {
  return { sql: `${column} = any(?)`, params };
}

function arrayText(
  { meta, driver }: Target,
  column: string,
  rows: readonly (readonly Column[])[],
  index: number,
): string | undefined {
  const write = writerOf(meta, column);
  if (!write) return undefined;
  const platform = driver.getPlatform();
  let text = '{';
  for (const row of rows) {
    const { value } = row[index]!;
    const item = value === null ? 'NULL' : write(value, platform);
    if (item === undefined) return undefined;
    text += text.length > 1 ? `,${item}` : item;
  }
  return `${text}}`;
}

function writerOf(meta: Meta, column: string): Writer | undefined {
  let ofEntity = writers.get(meta);
  if (!ofEntity) writers.set(meta, (ofEntity = new Map(meta.root.props.flatMap(writersOf))));
  return ofEntity.get(column);
}

function writersOf({ fieldNames, columnTypes, nativeEnumName }: Meta['props'][number]): [string, Writer][] {
  return (fieldNames ?? []).flatMap((name, index): [string, Writer][] => {
    const type = columnTypes?.[index];
    if (type === undefined) return [];
    return listable.test(type) || (nativeEnumName !== undefined && !type.endsWith(']')) ? [[name, writer(type)]] : [];
  });
}

function writer(type: string): Writer {
  const isOwn = numbers.find(([types]) => types.test(type))?.[1];
  const isBoolean = /^bool(ean)?$/i.test(type);
  return (value, platform) => {
    switch (typeof value) {
      case 'string':
        return quoted(value);
      case 'number':
        return isOwn?.(value) ? String(value) : undefined;
      case 'boolean':
        return isBoolean ? String(value) : undefined;
      case 'bigint':
        return quoted(value.toString());
      default:
        if (Buffer.isBuffer(value)) return quoted(`\\x${value.toString('hex')}`);
        // the platform's own literal, in its time zone, without the quotes around it
        return value instanceof Date ? quoted(platform.quoteValue(value).slice(1, -1)) : undefined;
    }
  };
}

const special = /["\\]/g;

function quoted(text: string): string {
  return `"${text.replace(special, '\\$&')}"`;
}

/** A relation of arrays. The last of `columns` counts its rows. */
export function unnested(arrays: readonly Sql[], alias: string, columns: readonly string[]): Sql {
  const list = arrays.map(({ sql }) => sql).join(', ');
  return {
    sql: `unnest(${list}) with ordinality as ${alias} (${columns.map(quote).join(', ')})`,
    params: arrays.flatMap(({ params }) => params),
  };
}

/** An array of whole numbers of this library's own. */
export function numberArray(values: readonly number[]): Sql {
  return { sql: '?::int4[]', params: [`{${values.join(',')}}`] };
}
