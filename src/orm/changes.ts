import {
  EventType,
  ReferenceKind,
  Utils,
  helper,
  type EntityManager as CoreEntityManager,
  type EntityName,
} from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { LookupError } from '../errors.js';
import { isSqlFragment } from './statement.js';
import { isInlineEmbedded, isToMany, requireProperty, type Meta, type Prop } from './metadata.js';

type Data = Record<string, unknown>;

/** New values of an existing row. */
export interface Changes {
  /** By property with columns of its own, in database form. */
  readonly payload: Data;
  /** Names of the entity's properties that the statement writes, with version and `onUpdate` ones. */
  readonly written: ReadonlySet<string>;
}

/** Converts values of properties to database form, as `em.assign()` and a flush would, and adds `onUpdate` values. */
export function buildChanges(em: EntityManager, meta: Meta, values: Readonly<Data>): Changes {
  const fork = em.fork({ clear: true, keepTransactionContext: true });
  const props = meta.properties as Record<string, Prop>;
  const patch = fork
    .getEntityFactory()
    .create(meta.class as EntityName<object>, {}, { initialized: false, merge: false });
  const payload: Data = {};
  const data: Data = {};
  for (const [name, value] of Object.entries(values)) {
    checkChange(meta, name, value);
    if (isSqlFragment(value)) payload[name] = value;
    // `assign()` holds an instance of a custom type's class against the type of the column
    else if (isInstance(value) && props[name]!.kind === ReferenceKind.SCALAR) (patch as Data)[name] = value;
    else data[name] = value;
  }
  fork.assign(patch, data as never, { updateByPrimaryKey: false });
  const written = new Set(Object.keys(values));
  for (const prop of meta.props as Prop[]) {
    if (!prop.onUpdate || prop.embedded || written.has(prop.name)) continue;
    (patch as Data)[prop.name] = prop.onUpdate(patch, fork);
    written.add(prop.name);
  }
  const prepared = fork.getComparator().prepareEntity(patch) as Data;
  for (const name of written) {
    for (const leaf of leaves(props[name]!)) {
      if (prepared[leaf.name] !== undefined) payload[leaf.name] = prepared[leaf.name];
      // nothing but null converts to nothing
      else if (!(leaf.name in payload) && values[name] === null) payload[leaf.name] = null;
    }
  }
  if (meta.versionProperty) written.add(meta.versionProperty);
  return { payload, written };
}

function isInstance(value: unknown): boolean {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && !Utils.isPlainObject(value);
}

function checkChange(meta: Meta, name: string, value: unknown): void {
  const prop = requireProperty(meta, name, 'The values');
  let problem: string | undefined;
  if (isToMany(prop)) problem = `the collection '${name}', which one statement can't write`;
  else if (prop.persist === false || prop.formula || prop.generated)
    problem = `'${name}', which is not a column to write`;
  else if (value === undefined) problem = `undefined for '${name}'`;
  if (problem) {
    throw new LookupError(`The values for a ${meta.className} name ${problem}: leave it out, or check its spelling.`, {
      entity: meta.className,
    });
  }
}

function leaves(prop: Prop): Prop[] {
  return isInlineEmbedded(prop) ? Object.values(prop.embeddedProps).flatMap(leaves) : [prop];
}

/** Fires `beforeUpsert` with the plain data, as `em.upsert()` does; listeners may change it. */
export async function fireBeforeUpsert(em: EntityManager, meta: Meta, data: Data): Promise<void> {
  const events = em.getEventManager();
  if (!events.hasListeners(EventType.beforeUpsert, meta)) return;
  await events.dispatchEvent(
    EventType.beforeUpsert,
    { entity: data, em: em as CoreEntityManager, meta } as never,
    meta,
  );
}

/** Fires `afterUpsert` with the managed entity, as `em.upsert()` does. */
export async function fireAfterUpsert(em: EntityManager, entity: object): Promise<void> {
  const events = em.getEventManager();
  const meta = helper(entity).__meta;
  if (!events.hasListeners(EventType.afterUpsert, meta)) return;
  await events.dispatchEvent(EventType.afterUpsert, { entity, em: em as CoreEntityManager, meta } as never, meta);
}

/** Whether two values of a property are the same for a database. */
export function isSame(left: unknown, right: unknown): boolean {
  return Utils.equals(left, right);
}
