import { FlushMode, Utils, raw, type EntityName, type FilterQuery } from '@mikro-orm/core';
import { MultipleRowsError } from '../errors.js';
import { keyText, parseLookup, type Lookup } from '../natural-keys/lookup.js';
import { planFor } from '../natural-keys/plan.js';
import { driverOf, run, type EntityManager, type Row } from '../orm/context.js';
import { fireOnLoad, hydrate, hydrateOver, primaryKeyText, storedData } from '../orm/entities.js';
import { isFiltered } from '../orm/filters.js';
import type { Meta } from '../orm/metadata.js';
import { PlainRows } from '../orm/plain.js';
import { MATCHES } from '../sql/select.js';
import type { Call } from './call.js';
import { selectMany } from './select-many.js';
import { selectShared, sharesSelects } from './SharedSelect.js';

/** A row that the database returned for a lookup, and the managed entity made of it. */
interface Found {
  readonly entity: object;
  /** The raw row; `undefined` when MikroORM's own query found it, which doesn't show the row. */
  readonly row: Row | undefined;
}

/** Says that a lookup's unique key belongs to a row that differs in the rest of the lookup. */
export const TAKEN = Symbol('taken');

/** What the database knows of a lookup. */
export type Finding = Found | typeof TAKEN | undefined;

/**
 * Looks lookups up in the database, one statement per shape. Whatever takes more than equality on the entity's own
 * table (filters, locks, a query of the caller's) goes through MikroORM's `find`, which knows how.
 *
 * @returns by index of `lookups`; nothing, or {@link TAKEN}, where no row matches
 * @throws {MultipleRowsError} when more than one row matches a lookup
 */
export async function findRows(call: Call, lookups: readonly Lookup[], extra = ''): Promise<Finding[]> {
  if (lookups.length === 0) return [];
  const byHost = needsHost(call);
  if (byHost === true || (byHost && (await byHost))) return findByHost(call, lookups);
  const { rows, areDistinct } = await sightRows(call, lookups, extra);
  const plain = plainRows(call, rows.length, areDistinct);
  const found = rows.map(
    (row) => row && (row === TAKEN ? TAKEN : { entity: plain?.load(row) ?? manage(call, row), row }),
  );
  await fireOnLoad(call.em, call.meta);
  return found;
}

/** Makes the entities of many rows; `undefined` where each is a matter of its own. */
export function plainRows(
  { em, meta, target, options }: Call,
  count: number,
  areDistinct: boolean,
): PlainRows | undefined {
  return count > 1 && !options.refresh ? PlainRows.of(em, meta, target.schema, areDistinct) : undefined;
}

/** What the database has, before entities are made of it. */
interface Sighting {
  /** By index of the lookups. */
  readonly rows: readonly (Row | typeof TAKEN | undefined)[];
  /** Whether no row of the table is among them twice. */
  readonly areDistinct: boolean;
}

/** The rows that {@link findRows} makes entities of, where no query of MikroORM's is needed. */
export async function sightRows(call: Call, lookups: readonly Lookup[], extra = ''): Promise<Sighting> {
  const sighted: (Row | typeof TAKEN | undefined)[] = lookups.map(() => undefined);
  const groups = [...Map.groupBy(lookups.keys(), (index) => lookups[index]!.shape).values()];
  let areDistinct = groups.length === 1;
  for (const group of groups) {
    const ofGroup = group.map((index) => lookups[index]!);
    const plan = planFor(driverOf(call.em), ofGroup[0]!);
    // without a key there may be any number of rows, of which a lookup of its own stops at the second
    const isShared = ofGroup.length === 1 && extra === '' && plan.key !== undefined && sharesSelects(call);
    const selected = isShared
      ? { rows: await selectShared(call, plan, ofGroup[0]!), indexOf: () => 0, areDistinct: false }
      : await selectMany((statement) => run(call.em, statement, call.options), call.target, plan, ofGroup, extra);
    areDistinct &&= selected.areDistinct;
    for (const row of selected.rows) {
      const index = group[selected.indexOf(row)!]!;
      if (sighted[index]) throw multipleRowsError(lookups[index]!);
      sighted[index] = MATCHES in row && row[MATCHES] !== true ? TAKEN : row;
    }
  }
  return { rows: sighted, areDistinct };
}

/** The managed entity of a row that was read. */
export function manage({ em, meta, target, options }: Call, row: Row): object {
  return (options.refresh ? hydrateOver : hydrate)(em, meta, row, target.schema);
}

/** Whether a query of MikroORM's own must answer: our statements know nothing of filters, locks and other conditions. */
export function needsHost(call: Call): boolean | Promise<boolean> {
  const { lockMode, lookup, filters } = call.options;
  return (call.byHost ??= lockMode !== undefined || lookup !== undefined || isFiltered(call.em, call.meta, filters));
}

async function findByHost(call: Call, lookups: readonly Lookup[]): Promise<(Found | undefined)[]> {
  const { em, meta, options } = call;
  const where = options.lookup ?? hostQuery(call, lookups);
  const entities = (await em.find(meta.class as EntityName<object>, where, {
    ...hostOptions(call),
    ...(lookups.length === 1 ? { limit: 2 } : {}),
  })) as object[];
  if (lookups.length === 1) {
    if (entities.length > 1) throw multipleRowsError(lookups[0]!);
    return [entities[0] && { entity: entities[0], row: undefined }];
  }
  return lookups.map((lookup) => {
    const matching = entities.filter((entity) => keyText(lookup, storedData(entity) ?? {}) === keyText(lookup));
    if (matching.length > 1) throw multipleRowsError(lookup);
    return matching[0] && { entity: matching[0], row: undefined };
  });
}

function hostQuery(call: Call, lookups: readonly Lookup[]): FilterQuery<object> {
  const queries = lookups.map((lookup) => {
    const predicate = planFor(driverOf(call.em), lookup).key?.predicate;
    const where = lookup.where as FilterQuery<object>;
    return predicate === undefined ? where : { $and: [where, { [raw(`(${predicate.replaceAll('?', '\\?')})`)]: [] }] };
  });
  return queries.length === 1 ? queries[0]! : { $or: queries };
}

function hostOptions(call: Call): object {
  const { refresh, schema, lockMode, filters, signal } = call.options;
  const given = { refresh, schema, lockMode, filters, signal };
  // an automatic flush before the query would write what the caller has not flushed
  const options = { ...given, flushMode: FlushMode.COMMIT, connectionType: 'write' };
  return Utils.dropUndefinedProperties(options) ?? options;
}

/** Whether a call's entities have relations to be loaded with them. */
export function needsPopulating({ meta, options }: Call): boolean {
  return options.populate !== false && (options.populate !== undefined || meta.relations.some(({ eager }) => eager));
}

/** Loads eager relations and those that the caller asked for, as MikroORM's own `populate` option. */
export async function populate(call: Call, entities: readonly object[]): Promise<void> {
  const { populate: hint, filters, schema } = call.options;
  if (hint === false || entities.length === 0) return;
  const eager = call.meta.relations.filter((prop) => prop.eager).map(({ name }) => name);
  const asked = hint === true ? ['*'] : [hint ?? []].flat();
  const hints = [...new Set([...eager, ...asked])];
  if (hints.length === 0) return;
  const options = { ...(filters === undefined ? {} : { filters }), ...(schema === undefined ? {} : { schema }) };
  await call.em.populate([...entities] as never, hints as never, options as never);
}

/** The primary keys of the rows that match a lookup, as text; entities of the caller's unit of work aren't touched. */
export async function primaryKeysOf(
  em: EntityManager,
  meta: Meta,
  schema: string | undefined,
  where: unknown,
): Promise<string[]> {
  const lookup = parseLookup(meta, where, em.getPlatform());
  const options = {
    filters: false,
    fields: meta.primaryKeys,
    disableIdentityMap: true,
    ...(schema === undefined ? {} : { schema }),
  };
  const rows = (await em.find(meta.class as EntityName<object>, lookup.where, {
    ...options,
    flushMode: FlushMode.COMMIT,
    connectionType: 'write',
  } as never)) as object[];
  return rows.map(primaryKeyText);
}

export function multipleRowsError(lookup: Lookup): MultipleRowsError {
  return new MultipleRowsError(
    `More than one ${lookup.meta.className} matches ${lookup.printed}: name more properties, and give them a unique ` +
      'constraint so that the database keeps it that way.',
    { entity: lookup.meta.className, lookup: lookup.printed },
  );
}
