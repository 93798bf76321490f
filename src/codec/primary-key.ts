import type { ChangeSet } from '@mikro-orm/core';
import type { Lookup } from '../natural-keys/lookup.js';
import { canonical, sequence } from '../orm/canonical.js';
import type { EntityManager, Row } from '../orm/context.js';
import { comparableValue, mapRow, metaOf, primaryKeyValues } from '../orm/entities.js';
import type { Meta } from '../orm/metadata.js';

/*
 * The primary key as text, the same for every process and whoever gave it: entries are named by it, and a change must
 * name the entry that a reader filled. Unlike lookups it can't be confirmed on the row, so there must be no two texts
 * for one key.
 */

/** The primary key of a managed entity. */
export function primaryKeyText(entity: object): string {
  return keyText(metaOf(entity), primaryKeyValues(entity) ?? []);
}

/** The primary key that a changed entity had before; `undefined` when it isn't known. */
export function originalKeyText(changeSet: ChangeSet<object> | undefined): string | undefined {
  const original = changeSet?.originalEntity as Row | undefined;
  if (!changeSet || !original) return undefined;
  const meta = changeSet.meta as Meta;
  return completeKeyText(
    meta,
    meta.primaryKeys.map((name) => original[name]),
  );
}

/** The primary key of a raw row. */
export function rowKeyText(em: EntityManager, meta: Meta, row: Row): string | undefined {
  const data = mapRow(em, meta, row);
  return completeKeyText(
    meta,
    meta.root.getPrimaryProps().map((prop) => comparableValue(em, prop, data)),
  );
}

/** The primary key that a lookup gives; `undefined` when it doesn't give all of it. */
export function lookupKeyText({ meta, parts }: Lookup): string | undefined {
  if (!parts.some(({ prop }) => prop.primary)) return undefined;
  const values = meta.primaryKeys.map((name) => parts.find(({ prop }) => prop.name === name)?.value);
  return completeKeyText(meta, values);
}

function completeKeyText(meta: Meta, values: readonly unknown[]): string | undefined {
  return values.some((value) => value == null) ? undefined : keyText(meta, values.flat(Infinity));
}

function keyText(meta: Meta, values: readonly unknown[]): string {
  const types = columnTypes(meta);
  return sequence(values.map((value, index) => canonical(types[index] === 'uuid' ? sameUuid(value) : value)));
}

/** As PostgreSQL writes it; it reads capitals, braces and missing hyphens too. */
function sameUuid(value: unknown): unknown {
  const digits = String(value).toLowerCase().replaceAll(/[{}-]/g, '');
  if (!/^[\da-f]{32}$/.test(digits)) return value;
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Types of which two different texts may be equal to the database. */
const ambiguous =
  /^(char\b|character\b(?! varying)|bpchar|citext|numeric|decimal|money|real|float|double|date|time|interval|json|bit|varbit|inet|cidr|macaddr|xml|hstore)/i;

/** Why entries can't be named by an entity's primary key; `undefined` when they can. */
export function unnameableReason(meta: Meta): string | undefined {
  const type = columnTypes(meta).find((columnType) => ambiguous.test(columnType));
  return type && `its primary key is of type ${type}, in which equal values may be written in several ways`;
}

const typesByRoot = new WeakMap<Meta, string[]>();

function columnTypes({ root }: Meta): string[] {
  let types = typesByRoot.get(root);
  if (!types) {
    types = root.getPrimaryProps().flatMap((prop) => prop.columnTypes ?? []);
    typesByRoot.set(root, types);
  }
  return types;
}
