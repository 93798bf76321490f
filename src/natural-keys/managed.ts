import type { EntityManager } from '@mikro-orm/postgresql';
import { isNamedBy, keyText, type Lookup } from './lookup.js';
import { entitySchema, isManaged, metaOf, storedData } from '../orm/entities.js';
import type { Meta } from '../orm/metadata.js';
import { isUndone } from '../orm/unit.js';

/** Managed entities of one class by the values of one set of properties. */
interface Index {
  readonly root: Meta;
  readonly schema: string | undefined;
  /** Names of the properties. */
  readonly names: readonly string[];
  readonly entities: Map<string, object>;
  /** What the identity map held them in when it was last looked through: another one after a `clear()`. */
  store: object | undefined;
  /** How many of them there were. */
  seen: number;
}

/** Kept on the EntityManager itself: a WeakMap of as many as a busy process forks would keep the collector busy. */
const INDEXES = Symbol('mikro-orm-plus.indexes');

interface Indexed {
  [INDEXES]?: Index[];
}

/**
 * Finds the managed entity that a lookup names. An entity counts under the key that it has in the database: with an
 * unflushed rename it is still the row of its old name. The identity map itself knows primary keys only, so an index is
 * kept beside it, brought up to date when the map has grown, and every answer is checked on the entity.
 */
export function findManaged(em: EntityManager, lookup: Lookup, schema: string | undefined): object | undefined {
  const store = em.getUnitOfWork(false).getIdentityMap().getStore(lookup.meta.root);
  if (store.size === 0) return undefined;
  const index = findIndex(em, lookup, schema) ?? addIndex(em, lookup, schema);
  if (index.store !== store || index.seen !== store.size) scan(index, store.values(), lookup, em, schema);
  index.store = store;
  index.seen = store.size;
  const entity = index.entities.get(lookup.values);
  if (entity && isUndone(entity)) {
    em.getUnitOfWork(false).unsetIdentity(entity);
    return undefined;
  }
  return entity && matches(entity, lookup, em, schema) && isManaged(em, entity) ? entity : undefined;
}

/**
 * Tells the index, if there is one, of an entity that was just brought into the identity map for `lookup`. Most
 * EntityManagers are asked once: the first search after that makes the index.
 */
export function noteManaged(em: EntityManager, lookup: Lookup, schema: string | undefined, entity: object): void {
  const index = findIndex(em, lookup, schema);
  if (!index) return;
  const { size } = em.getUnitOfWork(false).getIdentityMap().getStore(lookup.meta.root);
  if (index.seen === size - 1) index.seen = size;
  // the entity counts under the key that it has now: an update may have renamed it
  index.entities.set(keyText(lookup, storedData(entity)), entity);
}

/** Has the next search look through the identity map again, which costs less than a {@link noteManaged} for each of many. */
export function noteManyManaged(em: EntityManager, meta: Meta): void {
  for (const index of (em as Indexed)[INDEXES] ?? []) if (index.root === meta.root) index.seen = -1;
}

function addIndex(em: EntityManager, { meta, parts }: Lookup, schema: string | undefined): Index {
  const names = parts.map(({ prop }) => prop.name);
  const index: Index = { root: meta.root, schema, names, entities: new Map(), store: undefined, seen: 0 };
  ((em as Indexed)[INDEXES] ??= []).push(index);
  return index;
}

function findIndex(em: EntityManager, { meta, parts }: Lookup, schema: string | undefined): Index | undefined {
  // there are few: as many as a unit of work has ways to look its entities up
  return (em as Indexed)[INDEXES]?.find(
    ({ root, schema: ofSchema, names }) =>
      root === meta.root &&
      ofSchema === schema &&
      names.length === parts.length &&
      names.every((name, at) => name === parts[at]!.prop.name),
  );
}

function scan(
  index: Index,
  entities: Iterable<object>,
  lookup: Lookup,
  em: EntityManager,
  schema: string | undefined,
): void {
  index.entities.clear();
  for (const entity of entities) {
    const data = storedData(entity);
    if (data && isOfSchema(entity, lookup.meta, em, schema)) index.entities.set(keyText(lookup, data), entity);
  }
}

function matches(entity: object, lookup: Lookup, em: EntityManager, schema: string | undefined): boolean {
  const data = storedData(entity);
  return (
    data !== undefined &&
    isNamedBy(lookup, ({ name }) => data[name]) &&
    isOfClass(entity, lookup.meta) &&
    isOfSchema(entity, lookup.meta, em, schema)
  );
}

function isOfSchema(entity: object, meta: Meta, em: EntityManager, schema: string | undefined): boolean {
  return entitySchema(entity) === em.getDriver().getSchemaName(meta, schema === undefined ? {} : { schema });
}

function isOfClass(entity: object, meta: Meta): boolean {
  return metaOf(entity) === meta || entity instanceof (meta.class as new () => object);
}
