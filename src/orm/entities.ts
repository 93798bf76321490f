import { Collection, EventType, Utils, helper, type EntityName } from '@mikro-orm/core';
import type { AbstractSqlDriver, EntityManager } from '@mikro-orm/postgresql';
import { canonical, sequence } from './canonical.js';
import type { Row } from './context.js';
import { discriminatorValues, isToMany, type Meta, type Prop } from './metadata.js';
import { showsNewer } from './order.js';
import { PlainRows } from './plain.js';

/** Property-keyed data of one row in database form. */
type Data = Record<string, unknown>;

/** The primary key of a managed entity as canonical text, the same for every process. */
export function primaryKeyText(entity: object): string {
  return sequence((helper(entity).getPrimaryKeys(true) ?? []).flat(Infinity).map(canonical));
}

/** The schema that a managed entity's row lives in. */
export function schemaOf(em: EntityManager, entity: object): string | undefined {
  const wrapped = helper(entity);
  const schema = wrapped.__schema ?? em.schema;
  return (em.getDriver() as AbstractSqlDriver).getSchemaName(wrapped.__meta, schema === undefined ? {} : { schema });
}

/** The values of a row by property, in database form. */
export function mapRow(em: EntityManager, meta: Meta, row: Row): Data {
  return em.getDriver().mapResult(row, meta.root) as Data;
}

/**
 * Brings a row into the identity map: the entity it is there already, as it stands, or a managed, initialized and clean
 * one. Unflushed changes of a known entity are kept.
 */
export function hydrate(em: EntityManager, meta: Meta, row: Row, schema: string | undefined): object {
  return hydrateData(em, meta, mapRow(em, meta, row), schema);
}

/** {@link hydrate} for a row that {@link mapRow} has mapped already; the data becomes the entity's. */
export function hydrateData(em: EntityManager, meta: Meta, data: Data, schema: string | undefined): object {
  const known = findByKey(em, meta, data, schema);
  if (known) return helper(known).__initialized ? known : create(em, meta, data, schema, false);
  return PlainRows.of(em, meta, schema, true)?.loadData(data) ?? create(em, meta, data, schema, false);
}

/** Like {@link hydrate}, but a known entity is overwritten with the row, as by MikroORM's own `refresh`. */
export function hydrateOver(em: EntityManager, meta: Meta, row: Row, schema: string | undefined): object {
  return create(em, meta, mapRow(em, meta, row), schema, true);
}

/** When the statement that wrote a row was sent, and when the database wrote it; see `order.ts`. */
export interface WriteTime {
  readonly sentAt: number;
  readonly writtenAt: bigint;
}

/**
 * Brings a row that was just written into the identity map. Of a known entity, the properties in `written` and those
 * without pending changes take the row's values; other pending changes stay pending. What a later statement wrote stays.
 */
export function hydrateWritten(
  em: EntityManager,
  meta: Meta,
  row: Row,
  schema: string | undefined,
  written: ReadonlySet<string>,
  { sentAt, writtenAt }: WriteTime,
): object {
  const data = mapRow(em, meta, row);
  const known = findByKey(em, meta, data, schema);
  if (known && showsNewer(known, sentAt, writtenAt)) return known;
  if (!known || !helper(known).__initialized) return create(em, meta, data, schema, false);
  const pending = new Map<string, unknown>();
  for (const name of pendingChanges(em, known)) {
    if (!written.has(name)) pending.set(name, (known as Data)[name]);
  }
  const entity = create(em, meta, data, schema, true);
  for (const [name, value] of pending) (entity as Data)[name] = value;
  return entity;
}

/**
 * Brings the row of an entity that was just created into the identity map. Its collections are known to be empty, as
 * after `em.create()` and a flush, and what the candidate carries beside its columns comes along.
 */
export function hydrateCreated(
  em: EntityManager,
  meta: Meta,
  row: Row,
  schema: string | undefined,
  candidate: object,
  sentAt: number,
): object {
  const data = mapRow(em, meta, row);
  const known = findByKey(em, meta, data, schema);
  // whatever else was shown since the insert was sent came after it
  if (known && showsNewer(known, sentAt, 0n)) return known;
  const entity = create(em, meta, data, schema, false);
  em.getUnitOfWork(false).unmarkAsLoaded(entity);
  for (const prop of helper(entity).__meta.props as Prop[]) {
    if (isToMany(prop)) {
      // what MikroORM adds to the target of an M:N relation for its own joins
      if (prop.hydrate === false) continue;
      const collection = (entity as Data)[prop.name];
      if (!Utils.isCollection(collection)) Collection.create(entity as never, prop.name as never, [], false);
      else if (!collection.isInitialized()) collection.hydrate([]);
    } else if (prop.persist === false && !prop.formula && !prop.embedded && !isSet(entity, prop)) {
      if (isSet(candidate, prop)) (entity as Data)[prop.name] = (candidate as Data)[prop.name];
    }
  }
  helper(entity).populated();
  return entity;
}

function isSet(entity: object, prop: Prop): boolean {
  return (entity as Data)[prop.name] !== undefined;
}

function create(em: EntityManager, meta: Meta, data: Data, schema: string | undefined, refresh: boolean): object {
  return em.getEntityFactory().create(meta.class as EntityName<object>, data, {
    merge: true,
    refresh,
    convertCustomTypes: true,
    // the snapshot must be what a flush would compute, else values of custom types look changed
    recomputeSnapshot: true,
    ...(schema === undefined ? {} : { schema }),
  });
}

function findByKey(em: EntityManager, meta: Meta, data: Data, schema: string | undefined): object | undefined {
  const root = meta.root;
  const identityMap = em.getUnitOfWork(false).getIdentityMap();
  if (identityMap.getStore(root).size === 0) return undefined;
  const key: unknown = root.simplePK
    ? data[root.primaryKeys[0]!]
    : Utils.getOrderedPrimaryKeys(data, root, em.getPlatform(), true);
  const effective = (em.getDriver() as AbstractSqlDriver).getSchemaName(root, { schema });
  return em.getUnitOfWork(false).getById(root.class as EntityName<object>, key, effective);
}

/** Names of the properties with unflushed changes; parts of an inline embeddable count for the embeddable. */
function pendingChanges(em: EntityManager, entity: object): Set<string> {
  const wrapped = helper(entity);
  const comparator = em.getComparator();
  const now = comparator.prepareEntity(entity);
  const diff = comparator.diffEntities(wrapped.__meta.class, wrapped.__originalEntityData ?? {}, now);
  const props = wrapped.__meta.properties as Record<string, Prop>;
  return new Set(Object.keys(diff).map((name) => rootOf(props, name)));
}

function rootOf(props: Record<string, Prop>, name: string): string {
  let prop = props[name];
  while (prop?.embedded) prop = props[prop.embedded[0]];
  return prop?.name ?? name;
}

/** Whether anybody listens to `onLoad`. */
export function hearsLoads(em: EntityManager, meta: Meta): boolean {
  return em.getEventManager().hasListeners(EventType.onLoad, meta);
}

/** Fires `onLoad` for what was hydrated since, as MikroORM does at the end of a query. */
export async function fireOnLoad(em: EntityManager, meta: Meta): Promise<void> {
  if (hearsLoads(em, meta)) await em.getUnitOfWork(false).dispatchOnLoadEvent();
}

/** Whether an entity is still this unit of work's, and loaded. */
export function isManaged(em: EntityManager, entity: object): boolean {
  const wrapped = helper(entity);
  return (
    wrapped.__managed &&
    wrapped.__initialized &&
    em.getUnitOfWork(false).getIdentityMap().getByEntity(entity) === entity
  );
}

/** What the database held for a managed entity when it was last read or flushed, in database form. */
export function storedData(entity: object): Data | undefined {
  return helper(entity).__originalEntityData;
}

/** Whether a row's data belongs to a class of a single-table hierarchy, or to one below it. */
export function isOfKind(meta: Meta, data: Readonly<Data>): boolean {
  const kinds = discriminatorValues(meta);
  return kinds === undefined || kinds.map(String).includes(String(data[meta.root.discriminatorColumn!]));
}

/** A value of a row's data, those of custom types in the form that a lookup has them in. */
export function comparableValue(em: EntityManager, prop: Prop, data: Readonly<Data>): unknown {
  const value = data[prop.name] ?? null;
  const type = prop.customType;
  if (!type || value === null || prop.targetMeta) return value;
  const platform = em.getPlatform();
  const converted = type.convertToJSValue(value, platform);
  return type.convertToDatabaseValue(converted, platform, { fromQuery: true, key: prop.name, mode: 'query' });
}

/** The metadata of an entity's own class. */
export function metaOf(entity: object): Meta {
  return helper(entity).__meta as Meta;
}

/** The schema that an entity was loaded from or is meant for. */
export function entitySchema(entity: object): string | undefined {
  return helper(entity).__schema;
}

/** The primary key of an entity in database form, flat; `undefined` when it has none yet. */
export function primaryKeyValues(entity: object): unknown[] | undefined {
  const keys = helper(entity).getPrimaryKeys(true)?.flat(Infinity);
  return keys?.some((key) => key == null) ? undefined : keys;
}

/** Whether an entity's row was read from the database or written to it. */
export function isStored(entity: object): boolean {
  return primaryKeyValues(entity) !== undefined && storedData(entity) !== undefined;
}
