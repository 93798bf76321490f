import { ReferenceKind } from '@mikro-orm/core';
import type { AbstractSqlDriver } from '@mikro-orm/postgresql';
import { columnsOfProp } from '../orm/statement.js';
import { isToOne, quote, type Meta, type Prop } from '../orm/metadata.js';

/** A unique constraint or index that an `insert … on conflict` can name. */
export interface UniqueKey {
  /** Properties with columns of their own, in the order of the constraint. */
  readonly props: readonly Prop[];
  readonly columns: readonly string[];
  /** SQL predicate of a partial index. */
  readonly predicate: string | undefined;
  /** Whether nulls count as equal; otherwise a null in a key never conflicts. */
  readonly nullsNotDistinct: boolean;
  /** Its name in the database, if metadata gives one; else MikroORM makes one. */
  readonly name: string | undefined;
}

const known = new WeakMap<Meta, UniqueKey[]>();

/** Every unique key that metadata declares and `on conflict` can use: deferrable and expression indexes can't serve. */
export function uniqueKeysOf(driver: AbstractSqlDriver, meta: Meta): readonly UniqueKey[] {
  let keys = known.get(meta);
  if (!keys) {
    keys = readUniqueKeys(driver, meta);
    known.set(meta, keys);
  }
  return keys;
}

function readUniqueKeys(driver: AbstractSqlDriver, meta: Meta): UniqueKey[] {
  const keys = [uniqueKey(meta.getPrimaryProps())];
  for (const prop of meta.props) {
    const owned = prop.kind !== ReferenceKind.ONE_TO_ONE || isToOne(prop);
    if (prop.unique && prop.persist !== false && owned) {
      keys.push(uniqueKey([prop], { name: typeof prop.unique === 'string' ? prop.unique : undefined }));
    }
  }
  // the classes of a single-table hierarchy share the indexes of their table
  for (const unique of new Set([...meta.uniques, ...meta.root.uniques])) {
    const names = unique.properties === undefined ? [] : [unique.properties].flat();
    const props = names.map((name) => leafProp(meta, name));
    if (unique.deferMode) continue;
    if (unique.expression) {
      const parsed = nullsNotDistinctKey(driver, meta, unique as ExpressionIndex);
      if (parsed) keys.push(parsed);
      continue;
    }
    if (props.length === 0 || props.includes(undefined)) continue;
    const predicate = unique.where ? driver.renderPartialIndexWhere(meta.class, unique.where) : undefined;
    keys.push(uniqueKey(props as Prop[], { predicate, name: unique.name }));
  }
  return keys;
}

function uniqueKey(props: readonly Prop[], more: Partial<UniqueKey> = {}): UniqueKey {
  const { predicate, nullsNotDistinct = false, name } = more;
  return { props, columns: props.flatMap(columnsOfProp), predicate, nullsNotDistinct, name };
}

/** Finds a property by name; `address.city` means the flattened property of an inline embeddable. */
function leafProp(meta: Meta, name: string): Prop | undefined {
  const props = meta.properties as Record<string, Prop>;
  if (Object.hasOwn(props, name)) return props[name];
  const [head, ...rest] = name.split('.');
  let prop = head === undefined ? undefined : props[head];
  for (const key of rest) prop = prop?.embeddedProps?.[key];
  return prop;
}

interface ExpressionIndex {
  readonly name?: string;
  readonly expression: string | ((columns: Record<string, string>, table: unknown, indexName: string) => unknown);
}

/**
 * MikroORM has no option for `nulls not distinct`; such an index is declared by its whole DDL. It is read back here
 * when its key is a plain list of columns, since that is what `on conflict` can name.
 */
function nullsNotDistinctKey(driver: AbstractSqlDriver, meta: Meta, index: ExpressionIndex): UniqueKey | undefined {
  const ddl = renderExpression(driver, meta, index);
  const match = /\(([^()]*)\)\s*nulls\s+not\s+distinct\s*(?:where\s+(.+?))?\s*;?\s*$/is.exec(ddl);
  if (!match) return undefined;
  const columns = match[1]!.split(',').map((column) =>
    column
      .trim()
      .replace(/^"(.*)"$/s, '$1')
      .replaceAll('""', '"'),
  );
  const props: Prop[] = [];
  for (let at = 0; at < columns.length;) {
    const prop = meta.props.find(
      (candidate) => candidate.fieldNames?.[0] === columns[at] && candidate.persist !== false,
    );
    if (!prop || !prop.fieldNames.every((field, offset) => field === columns[at + offset])) return undefined;
    props.push(prop);
    at += prop.fieldNames.length;
  }
  return uniqueKey(props, { predicate: match[2], nullsNotDistinct: true, name: index.name });
}

function renderExpression(driver: AbstractSqlDriver, meta: Meta, index: ExpressionIndex): string {
  if (typeof index.expression === 'string') return index.expression;
  const table = {
    name: meta.tableName,
    schema: meta.schema,
    qualifiedName: meta.tableName,
    toString: () => quote(meta.tableName),
  };
  const rendered = index.expression(meta.createSchemaColumnMappingObject(), table, index.name ?? '');
  const raw = rendered as { sql?: string; params?: readonly unknown[] };
  return typeof rendered === 'string'
    ? rendered
    : driver.getPlatform().formatQuery(raw.sql ?? '', [...(raw.params ?? [])]);
}
