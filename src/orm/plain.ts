import { EventType, ReferenceKind, helper, type EntityName } from '@mikro-orm/core';
import type { AbstractSqlDriver, EntityManager } from '@mikro-orm/postgresql';
import type { Row } from './context.js';
import type { Meta, Prop } from './metadata.js';

/*
 * MikroORM's factory makes an entity of any row. What it asks for each of them (inheritance, relations, custom types,
 * constructors, listeners) is the same for all rows of a batch, and nothing of it applies to many entities.
 */

/** Property-keyed values of one row in database form. */
type Data = Record<string, unknown>;

const plainTypes = new Set(['string', 'number', 'boolean', 'Date']);
/** Declared types whose values MikroORM's comparator neither copies nor looks into. */
const primitive = new Set(['string', 'number', 'boolean', 'bigint']);

/** Whether an entity's values are those of its row as they are: nothing but columns of simple types, and one class. */
function isPlain(meta: Meta): boolean {
  const isOrdinary = meta.root === meta && !meta.inheritanceType && !meta.serializedPrimaryKey && !meta.virtual;
  return isOrdinary && meta.simplePK && !meta.forceConstructor && meta.props.every(isPlainProp);
}

function isPlainProp(prop: Prop): boolean {
  const { kind, customType, runtimeType, fieldNames, persist } = prop;
  if (kind !== ReferenceKind.SCALAR || customType || !plainTypes.has(runtimeType)) return false;
  if (prop.lazy || prop.formula || prop.generated || prop.version || prop.embedded || prop.ref || prop.array)
    return false;
  // compared by identity, which a snapshot of its own could never have
  if (runtimeType === 'Date' && primitive.has(prop.type.toLowerCase())) return false;
  if (prop.getter || prop.setter || prop.accessor || prop.hydrate === false) return false;
  return fieldNames?.length === 1 && persist !== false;
}

/**
 * What MikroORM defines on an entity: the mark of `ensurePropagation()`, and what its setters on the prototype define,
 * property by property, when they are called first. Made once, so that entities share functions and shape: of their own,
 * they take most of the time and memory of an entity.
 */
function definitionsOf(meta: Meta): [name: string, descriptor: PropertyDescriptor][] {
  const isTracked = ({ name, primary }: Prop): boolean =>
    !primary && Object.getOwnPropertyDescriptor(meta.prototype, name)?.set !== undefined;
  const accessors = meta.hydrateProps.filter(isTracked).map(({ name }) => [name, accessorOf(name)] as const);
  return Object.entries({
    ...(meta.definedProperties as PropertyDescriptorMap),
    ...Object.fromEntries(accessors),
  });
}

interface Wrapped {
  readonly __helper?: { readonly __data: Data };
}

function accessorOf(name: string): PropertyDescriptor & ThisType<Wrapped> {
  return {
    get() {
      return this.__helper?.__data[name];
    },
    set(value: unknown) {
      this.__helper!.__data[name] = value;
    },
    enumerable: true,
    configurable: true,
  };
}

/** What is the same for all rows of a plain entity. */
interface Shape {
  readonly key: string;
  readonly names: readonly string[];
  readonly compared: readonly string[];
  readonly definitions: readonly (readonly [name: string, descriptor: PropertyDescriptor])[];
}

const shapes = new WeakMap<Meta, Shape | false>();

/** `false` for entities that only MikroORM's factory can make. */
function shapeOf(meta: Meta): Shape | false {
  let shape = shapes.get(meta);
  if (shape === undefined) {
    shape = isPlain(meta) && {
      key: meta.primaryKeys[0]!,
      names: meta.props.map(({ name }) => name),
      compared: meta.comparableProps.map(({ name }) => name),
      definitions: definitionsOf(meta),
    };
    shapes.set(meta, shape);
  }
  return shape;
}

/** Brings rows of a plain entity into an identity map, as MikroORM's factory would. */
export class PlainRows {
  readonly #em: EntityManager;
  readonly #meta: Meta;
  readonly #shape: Shape;
  readonly #schema: string | undefined;
  readonly #schemaName: string | undefined;
  /** Whether the identity map may have an entity of a row. */
  readonly #mayKnow: boolean;

  private constructor(em: EntityManager, meta: Meta, shape: Shape, schema: string | undefined, areDistinct: boolean) {
    this.#em = em;
    this.#meta = meta;
    this.#shape = shape;
    this.#schema = schema;
    this.#schemaName = (em.getDriver() as AbstractSqlDriver).getSchemaName(
      meta,
      schema === undefined ? {} : { schema },
    );
    this.#mayKnow = !areDistinct || em.getUnitOfWork(false).getIdentityMap().getStore(meta).size > 0;
  }

  /**
   * @param areDistinct whether the rows are all there will be until they are in the identity map, each of them once
   * @returns `undefined` for entities that only MikroORM's factory can make
   */
  static of(em: EntityManager, meta: Meta, schema: string | undefined, areDistinct = false): PlainRows | undefined {
    const shape = shapeOf(meta);
    if (!shape || em.config.get('forceUndefined') || em.config.get('forceEntityConstructor')) return undefined;
    if (em.getEventManager().hasListeners(EventType.onInit, meta)) return undefined;
    return new PlainRows(em, meta, shape, schema, areDistinct);
  }

  /** The entity of a row that was read; `undefined` when the identity map has one of its key, in whatever state. */
  load(row: Row): object | undefined {
    const data = this.#dataOf(row);
    return data && this.loadData(data);
  }

  /** The entity of a row whose values are mapped already and nobody else's, and whose key the identity map doesn't have. */
  loadData(data: Data): object {
    const entity = Object.create(this.#meta.class.prototype as object) as object;
    const wrapped = helper(entity);
    wrapped.__managed = true;
    wrapped.__schema = this.#schemaName!;
    wrapped.__initialized = true;
    const { key, definitions } = this.#shape;
    // in the factory's order
    (entity as Data)[key] = data[key];
    // one by one: `Object.defineProperties()` takes twice as long
    for (const [name, descriptor] of definitions) Reflect.defineProperty(entity, name, descriptor);
    this.#manage(entity, data, data, true);
    return entity;
  }

  /**
   * Has a candidate itself, which was built for the row and belongs to no unit of work, become the entity of the row that
   * was made of it; `undefined` as in {@link load}.
   */
  adopt(candidate: object, payload: Readonly<Data>, row: Row): object | undefined {
    const data = this.#dataOf(row);
    if (!data) return undefined;
    const changed: Data = {};
    // candidates may have been given one and the same Date, which each entity needs for itself
    for (const name of this.#shape.names) {
      const value = data[name];
      if (value !== payload[name] || value instanceof Date) changed[name] = value;
    }
    this.#manage(candidate, data, changed, false);
    return candidate;
  }

  #dataOf(row: Row): Data | undefined {
    const data = this.#em.getDriver().mapResult(row, this.#meta) as Data;
    if (!this.#mayKnow) return data;
    const uow = this.#em.getUnitOfWork(false);
    const known = uow.getById(this.#meta.class as EntityName<object>, data[this.#shape.key], this.#schemaName);
    return known ? undefined : data;
  }

  #manage(entity: object, data: Data, values: Data, isLoad: boolean): void {
    const em = this.#em;
    const wrapped = helper(entity);
    wrapped.__processing = true;
    em.config
      .getHydrator(em.getMetadata())
      .hydrate(entity, this.#meta, values, em.getEntityFactory(), 'full', false, true, this.#schema, this.#schemaName);
    em.getUnitOfWork(false).register(entity, undefined, { loaded: isLoad });
    // a property that a cache region excludes isn't there, and must be loaded by the next query for the entity
    for (const name of this.#shape.names) if (data[name] !== undefined) wrapped.__loadedProperties.add(name);
    wrapped.__originalEntityData = this.#snapshotOf(data);
    wrapped.__processing = false;
    if (!isLoad) wrapped.populated();
  }

  /** What MikroORM's comparator would make of the entity. */
  #snapshotOf(data: Data): Data {
    const snapshot: Data = {};
    for (const name of this.#shape.compared) {
      const value = data[name];
      if (value !== undefined) snapshot[name] = value instanceof Date ? new Date(value) : value;
    }
    return snapshot;
  }
}
