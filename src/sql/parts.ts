import type { AbstractSqlDriver } from '@mikro-orm/postgresql';
import type { Lookup, LookupPart } from '../natural-keys/lookup.js';
import type { LookupPlan } from '../natural-keys/plan.js';
import type { UniqueKey } from '../natural-keys/unique-keys.js';
import { ALIAS, discriminatorValues, loadedProps, quote, type Meta } from '../orm/metadata.js';
import { columnsOf, columnsOfProp, selectList, tableName, type Column, type Sql } from '../orm/statement.js';

/** What every statement about one entity needs. */
export interface Target {
  readonly driver: AbstractSqlDriver;
  readonly meta: Meta;
  readonly schema: string | undefined;
}

const selectLists = new WeakMap<Meta, Map<string, string>>();

/** The select list of a full row, written once per entity and schema. */
export function fullRow(target: Target): string {
  let ofEntity = selectLists.get(target.meta);
  if (!ofEntity) selectLists.set(target.meta, (ofEntity = new Map()));
  const key = target.schema ?? '';
  let list = ofEntity.get(key);
  if (list === undefined) ofEntity.set(key, (list = selectList(target.driver, target.meta, target.schema)));
  return list;
}

/** The names of the columns of a full row, in the order of {@link fullRow}. */
export function rowColumns(target: Target): string[] {
  return loadedProps(target.meta).flatMap(columnsOfProp);
}

export function tableOf(target: Target): string {
  return tableName(target.driver, target.meta, target.schema);
}

/** Types of PostgreSQL's own: where one of them is the name of a table, it hides the type of the table's rows. */
const builtInTypes = new Set(
  (
    'aclitem any anyarray anycompatible anyelement anyenum anymultirange anynonarray anyrange bit bool box bpchar bytea ' +
    'char cid cidr circle cstring date datemultirange daterange float4 float8 gtsvector inet int2 int2vector int4 ' +
    'int4multirange int4range int8 int8multirange int8range internal interval json jsonb jsonpath line lseg macaddr ' +
    'macaddr8 money name numeric nummultirange numrange oid oidvector path point polygon record refcursor regclass ' +
    'regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole regtype text ' +
    'tid time timestamp timestamptz timetz trigger tsmultirange tsquery tsrange tstzmultirange tstzrange tsvector ' +
    'unknown uuid varbit varchar void xid xid8 xml'
  ).split(' '),
);

/** A null of a column's own type; no type name is repeated, and no value is cut to a length. */
export function typedNull(target: Target, column: string): string {
  const table = tableOf(target);
  return builtInTypes.has(target.meta.tableName)
    ? `(select ${quote(column)} from ${table} where false)`
    : `(null::${table}).${quote(column)}`;
}

/** The columns and values of one part of a lookup. */
function partColumns(target: Target, { prop, value }: LookupPart): Column[] {
  if (value === null) return prop.fieldNames.map((name) => ({ name, value: null }));
  return columnsOf(target.driver, target.meta, { [prop.name]: value });
}

export function lookupColumns(target: Target, lookup: Lookup): Column[] {
  return lookup.parts.flatMap((part) => partColumns(target, part));
}

/** A column of the entity's table, qualified by its alias. */
export function aliased(column: string): string {
  return `${quote(ALIAS)}.${quote(column)}`;
}

/** Conditions that come from the class (single-table inheritance) and the index (partial), not from a lookup's values. */
export function fixedConditions(target: Target, plan: LookupPlan): Sql[] {
  return [...indexConditions(plan), ...kindConditions(target)];
}

/** The row that a partial index speaks of is the one inside the index. */
export function indexConditions({ key }: LookupPlan): Sql[] {
  return key?.predicate ? [{ sql: `(${key.predicate.replaceAll('?', '\\?')})`, params: [] }] : [];
}

/** Keeps to the rows of a class of a single-table hierarchy. */
export function kindConditions(target: Target): Sql[] {
  const kinds = discriminatorValues(target.meta);
  if (!kinds) return [];
  const column = target.meta.root.properties[target.meta.root.discriminatorColumn!]!.fieldNames[0]!;
  return [{ sql: `${aliased(column)} in (${kinds.map(() => '?').join(', ')})`, params: kinds }];
}

/** `on conflict (…)` of a unique key, with the predicate of a partial index. */
export function conflictTarget(key: UniqueKey): string {
  const predicate = key.predicate ? ` where ${key.predicate.replaceAll('?', '\\?')}` : '';
  return `on conflict (${key.columns.map(quote).join(', ')})${predicate}`;
}

/** Equality of a column with the `?` of a lookup value that isn't null, or with null. */
export function equals(column: Column): Sql {
  return column.value === null
    ? { sql: `${aliased(column.name)} is null`, params: [] }
    : { sql: `${aliased(column.name)} = ?`, params: [column.value] };
}
