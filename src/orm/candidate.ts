import {
  ChangeSet,
  ChangeSetComputer,
  ChangeSetType,
  EventType,
  Reference,
  ReferenceKind,
  Utils,
  helper,
  type EntityName,
  type EntityManager as CoreEntityManager,
} from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { LookupError } from '../errors.js';
import type { PlainRows } from './plain.js';
import { classesOfTable, isToMany, isToOne, requireProperty, type Meta, type Prop } from './metadata.js';

/** An entity built to be inserted, apart from the caller's unit of work until its row exists. */
export interface Candidate {
  readonly entity: object;
  readonly meta: Meta;
  /** Property-keyed values in database form. */
  readonly payload: Record<string, unknown>;
}

interface Persister {
  processProperties(changeSet: ChangeSet<object>): void;
}

/** Where candidates are built: an EntityManager that they don't become known to. */
export class Nursery {
  readonly em: EntityManager;
  readonly schema: string | undefined;
  readonly #computer: ChangeSetComputer;
  readonly #persister: Persister;
  readonly #plain: PlainRows | undefined;

  private constructor(em: EntityManager, schema: string | undefined, plain?: PlainRows) {
    this.em = em;
    this.schema = schema;
    this.#plain = plain;
    this.#computer = new ChangeSetComputer(this.em, new Set());
    // a private method of MikroORM's persister: the very check of required properties that a flush makes
    this.#persister = this.em.getUnitOfWork(false).getChangeSetPersister() as unknown as Persister;
  }

  /** A fork of the caller's EntityManager, without its entities. */
  static apart(em: EntityManager, schema: string | undefined, plain?: PlainRows): Nursery {
    const options = { clear: true, keepTransactionContext: true, ...(schema === undefined ? {} : { schema }) };
    return new Nursery(em.fork(options), schema, plain);
  }

  /**
   * The caller's EntityManager itself, which saves the fork: for an entity that can't have anything to do with another.
   * Of data with a primary key it would make the entity of that key, if it has one.
   */
  static within(em: EntityManager, schema: string | undefined, plain?: PlainRows): Nursery {
    return new Nursery(em, schema, plain);
  }

  create(meta: Meta, data: Readonly<Record<string, unknown>>): ChangeSet<object> {
    const given = prepareData(this.em, meta, data);
    const entity =
      this.#plain?.build(given) ??
      this.em.create(meta.class as EntityName<object>, given as never, {
        persist: false,
        ...(this.schema === undefined ? {} : { schema: this.schema }),
      });
    const changeSet = this.#computer.computeChangeSet(entity);
    if (changeSet) return changeSet;
    throw new LookupError(`${meta.className} is readonly, so no row of it can be created.`, { entity: meta.className });
  }

  finish(changeSet: ChangeSet<object>): Candidate {
    this.#persister.processProperties(changeSet);
    const meta = changeSet.meta as Meta;
    return { entity: changeSet.entity, meta, payload: insertable(meta, changeSet.payload as Record<string, unknown>) };
  }
}

/**
 * Whether candidates may share a place, which saves most of what one of their own costs: not when one of them could leave
 * something there for the next to see, by a relation, a hook or an `onCreate` that takes the EntityManager.
 */
export function leavesNothing(em: EntityManager, meta: Meta): boolean {
  const events = em.getEventManager();
  // a class below may be the one that is built
  return classesOfTable(meta.root, em.getMetadata()).every(
    (of) =>
      of.relations.length === 0 &&
      !of.props.some(takesEntityManager) &&
      ![EventType.onInit, EventType.beforeCreate].some((event) => events.hasListeners(event, of)),
  );
}

/** Whether the application's `onCreate` is given the EntityManager. */
function takesEntityManager({ onCreate }: Prop): boolean {
  return onCreate !== undefined && onCreate.length > 1;
}

/**
 * Builds a new entity as `em.create()` and a flush would: constructor, defaults, `onCreate` values, `beforeCreate`
 * hooks and subscribers, check of required properties. It happens in a fork of its own, with stand-ins for related
 * entities: a candidate that was added to a loaded collection of the caller would be inserted by the next flush, even
 * when the race for its row was lost.
 *
 * @param nursery for the same arguments, where candidates can share one; by default a fork of its own
 * @returns the candidate at once, unless `beforeCreate` must be waited for
 * @throws {ValidationError} MikroORM's own, for a missing required property
 */
export function buildCandidate(
  em: EntityManager,
  meta: Meta,
  data: Readonly<Record<string, unknown>>,
  schema: string | undefined,
  hooks: 'fire' | 'silent' = 'fire',
  nursery = Nursery.apart(em, schema),
): Candidate | Promise<Candidate> {
  const changeSet = nursery.create(meta, data);
  const isHeard = hooks === 'fire' && em.getEventManager().hasListeners(EventType.beforeCreate, changeSet.meta);
  return isHeard ? finishHeard(nursery, changeSet) : nursery.finish(changeSet);
}

async function finishHeard(nursery: Nursery, changeSet: ChangeSet<object>): Promise<Candidate> {
  const { entity, meta } = changeSet;
  const args = { entity, em: nursery.em as CoreEntityManager, meta, changeSet };
  await nursery.em.getEventManager().dispatchEvent(EventType.beforeCreate, args, meta);
  changeSet.payload = nursery.em.getComparator().prepareEntity(entity) as never;
  return nursery.finish(changeSet);
}

/** Whether anybody listens to `afterCreate`. */
export function hearsCreations(em: EntityManager, meta: Meta): boolean {
  return classesOfTable(meta.root, em.getMetadata()).some((of) =>
    em.getEventManager().hasListeners(EventType.afterCreate, of),
  );
}

/** Fires `afterCreate` for an entity whose row was inserted. */
export async function fireAfterCreate(em: EntityManager, entity: object, candidate: Candidate): Promise<void> {
  const events = em.getEventManager();
  const meta = helper(entity).__meta;
  if (!events.hasListeners(EventType.afterCreate, meta)) return;
  const changeSet = new ChangeSet(entity, ChangeSetType.CREATE, candidate.payload as never, meta);
  changeSet.persisted = true;
  await events.dispatchEvent(EventType.afterCreate, { entity, em: em, meta, changeSet }, meta);
}

/** What an insert names: no generated columns, nothing undefined. */
function insertable(meta: Meta, payload: Record<string, unknown>): Record<string, unknown> {
  const props = meta.properties as Record<string, Prop>;
  const names = Object.keys(payload);
  const isNamed = (name: string): boolean => payload[name] !== undefined && !props[name]?.generated;
  if (names.every(isNamed)) return payload;
  return Object.fromEntries(names.filter(isNamed).map((name) => [name, payload[name]]));
}

/** Replaces related entities in creation data by stand-ins of `fork`, and refuses what one insert can't store. */
function prepareData(
  fork: EntityManager,
  meta: Meta,
  data: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const name of Object.keys(data)) {
    const value = data[name];
    const prop = requireProperty(meta, name, 'The data');
    if (isToMany(prop) && value != null) {
      throw new LookupError(
        `The data to create a ${meta.className} names the collection '${name}', which one insert can't fill: override ` +
          'createEntity() to create its items, or use repository.related(collection) afterwards.',
        { entity: meta.className },
      );
    }
    result[name] =
      isToOne(prop) && value != null && typeof value === 'object' ? relation(fork, meta, prop, value) : value;
  }
  return result;
}

function relation(fork: EntityManager, meta: Meta, prop: Prop, given: object): unknown {
  const value: unknown = Reference.unwrapReference(given);
  if (Utils.isEntity<object>(value)) {
    if (!helper(value).hasPrimaryKey()) throw unsavedError(meta, prop);
    const target = standIn(fork, value);
    return prop.mapToPk ? helper(target).getPrimaryKey() : target;
  }
  if (Utils.isPlainObject(value) && Utils.extractPK(value, prop.targetMeta, true) == null)
    throw unsavedError(meta, prop);
  return value;
}

function unsavedError(meta: Meta, prop: Prop): LookupError {
  return new LookupError(
    `The data to create a ${meta.className} has a new ${prop.targetMeta?.className ?? 'entity'} for '${prop.name}', which isn't ` +
      'in the database yet: create it first (getOrCreate, or flush), and pass it or its primary key.',
    { entity: meta.className },
  );
}

/** A copy of a related entity for the eyes of constructors and hooks; collections stay unloaded. */
function standIn(fork: EntityManager, original: object): object {
  const wrapped = helper(original);
  const meta = wrapped.__meta as Meta;
  const copy = fork.getReference(
    meta.class as EntityName<object>,
    wrapped.getPrimaryKey() as never,
    wrapped.__schema === undefined ? {} : { schema: wrapped.__schema },
  );
  if (!wrapped.__initialized || helper(copy).__initialized) return copy;
  helper(copy).__initialized = true;
  helper(copy).__processing = true;
  const source = original as Record<string, unknown>;
  const target = copy as Record<string, unknown>;
  for (const prop of meta.props as Prop[]) {
    if (
      prop.primary ||
      isToMany(prop) ||
      prop.embedded ||
      prop.kind === ReferenceKind.ONE_TO_ONE ||
      source[prop.name] === undefined
    )
      continue;
    if (!isToOne(prop)) target[prop.name] = source[prop.name];
    else if (!prop.mapToPk) copyRelation(fork, source, target, prop);
  }
  helper(copy).__processing = false;
  return copy;
}

function copyRelation(
  fork: EntityManager,
  source: Record<string, unknown>,
  target: Record<string, unknown>,
  prop: Prop,
): void {
  const given = source[prop.name];
  const related: unknown = Reference.unwrapReference(given as object);
  if (!Utils.isEntity<object>(related) || !helper(related).hasPrimaryKey()) return;
  const copy = standIn(fork, related);
  target[prop.name] = Utils.isEntity(given) ? copy : Reference.create(copy);
}
