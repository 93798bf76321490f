import { isRaw, RawQueryFragment } from '@mikro-orm/core';
import type { AbstractSqlDriver } from '@mikro-orm/postgresql';
import { ALIAS, isInverse, loadedProps, quote, type Meta, type Prop } from './metadata.js';

/** SQL text with `?` for each value. Values never become text here: MikroORM's platform quotes them. */
export interface Sql {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** One column of a row that is written: `value` takes the place of the `?` in `expression`. */
export interface Column {
  readonly name: string;
  readonly value: unknown;
}

interface FormulaHost {
  createFormulaTable(alias: string, meta: Meta, schema?: string): never;
}

/** The schema-qualified, quoted table of an entity. */
export function tableName(driver: AbstractSqlDriver, meta: Meta, schema: string | undefined): string {
  const effective = driver.getSchemaName(meta, { schema });
  return effective && effective !== driver.getPlatform().getDefaultSchemaName()
    ? `${quote(effective)}.${quote(meta.tableName)}`
    : quote(meta.tableName);
}

/** The select list of a fully loaded row, as MikroORM's own query builder writes it, over the alias {@link ALIAS}. */
export function selectList(driver: AbstractSqlDriver, meta: Meta, schema: string | undefined): string {
  return loadedProps(meta)
    .flatMap((prop) =>
      columnsOfProp(prop).map((column, index) => selectItem(driver, meta, prop, column, index, schema)),
    )
    .join(', ');
}

/**
 * The select list of a row's primary key, as MikroORM's own query builder writes it, over the alias {@link ALIAS}. For
 * statements that don't go through MikroORM: nothing is hidden from its search for placeholders.
 */
export function keyColumns(driver: AbstractSqlDriver, meta: Meta): string {
  const items = meta.root
    .getPrimaryProps()
    .flatMap((prop) =>
      columnsOfProp(prop).map((column, index) => selectItem(driver, meta, prop, column, index, undefined)),
    );
  return items.join(', ').replaceAll('\\?', '?');
}

function selectItem(
  driver: AbstractSqlDriver,
  meta: Meta,
  prop: Prop,
  column: string,
  index: number,
  schema: string | undefined,
): string {
  if (prop.formula) {
    // createFormulaTable is private to the driver, yet the only way to give a formula the table it was declared with
    const table = (driver as unknown as FormulaHost).createFormulaTable(quote(ALIAS), meta, schema);
    const columns = meta.createColumnMappingObject(ALIAS);
    return `${driver.evaluateFormula(prop.formula as () => string, columns, table).replaceAll('?', '\\?')} as ${quote(column)}`;
  }
  if (isInverse(prop)) return `${inverseKey(driver, meta, prop, index, schema)} as ${quote(column)}`;
  const qualified = `${quote(ALIAS)}.${quote(column)}`;
  const type = columnType(prop, index);
  return type?.convertToJSValueSQL
    ? `${type.convertToJSValueSQL(qualified, driver.getPlatform())} as ${quote(column)}`
    : qualified;
}

/** The key column of the row that points here from the owning side of a 1:1 relation; MikroORM joins it. */
function inverseKey(
  driver: AbstractSqlDriver,
  meta: Meta,
  prop: Prop,
  index: number,
  schema: string | undefined,
): string {
  const target = prop.targetMeta!;
  const owner = target.properties[prop.mappedBy as never] as Prop;
  const key = target.getPrimaryProps().flatMap(({ fieldNames }) => fieldNames)[index]!;
  const match = owner.joinColumns.map(
    (column, at) => `"r".${quote(column)} = ${quote(ALIAS)}.${quote(owner.referencedColumnNames[at]!)}`,
  );
  const table = tableName(driver, target, target.schema === '*' || meta.schema === '*' ? schema : undefined);
  return `(select "r".${quote(key)} from ${table} as "r" where ${match.join(' and ')} limit 1)`;
}

/** The columns of a property; a renamed property of a single-table hierarchy has one per class. */
export function columnsOfProp(prop: Prop): string[] {
  return prop.stiFieldNames ?? prop.fieldNames;
}

function columnType(prop: Prop, index: number): Prop['customType'] | undefined {
  return (
    prop.customType ?? (prop.fieldNames.length > 1 ? prop.targetMeta?.getPrimaryProps()[index]?.customType : undefined)
  );
}

/**
 * Turns property-keyed values in database form (as MikroORM's comparator gives them) into columns, the way a flush
 * does: embeddables and composite keys flattened, JSON written out, SQL-level conversions of custom types applied.
 */
export function columnsOf(driver: AbstractSqlDriver, meta: Meta, payload: Readonly<Record<string, unknown>>): Column[] {
  const bare = bareColumns(meta, payload);
  if (bare) return bare;
  const mapped = driver.mapDataToFieldNames(payload, true, meta.properties, false) as Record<string, unknown>;
  return Object.keys(mapped)
    .filter((name) => mapped[name] !== undefined)
    .map((name) => ({ name, value: mapped[name] }));
}

/** {@link columnsOf} for properties that a column holds as they are, which takes no copies. */
function bareColumns(meta: Meta, payload: Readonly<Record<string, unknown>>): Column[] | undefined {
  const props = meta.properties as Record<string, Prop>;
  const columns: Column[] = [];
  for (const name of Object.keys(payload)) {
    const prop = props[name];
    if (!prop || !isBare(prop)) return undefined;
    const value = payload[name];
    if (value !== undefined) columns.push({ name: prop.fieldNames[0]!, value });
  }
  return columns;
}

function isBare({ fieldNames, embeddedProps, polymorphic, joinColumns, hasConvertToDatabaseValueSQL }: Prop): boolean {
  return fieldNames?.length === 1 && !embeddedProps && !polymorphic && !joinColumns && !hasConvertToDatabaseValueSQL;
}

/**
 * A long text as a parameter. MikroORM's platform quotes a text character by character, with an object for each; this
 * gives it the same literal ready made.
 */
export function longText(text: string): RawQueryFragment {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return new RawQueryFragment(text.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted);
}

/** Whether a value is SQL rather than data, e.g. `raw('now()')` given by the application for a column. */
export function isSqlFragment(value: unknown): value is RawQueryFragment {
  return isRaw(value);
}
