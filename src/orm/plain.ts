import { EventType, helper, type EntityFactory, type EntityName, type UnitOfWork } from '@mikro-orm/core';
import type { AbstractSqlDriver, EntityManager } from '@mikro-orm/postgresql';
import type { Row } from './context.js';
import type { Meta } from './metadata.js';
import { shapeOf, type Data, type Shape } from './plain-shape.js';

const defined: PropertyDescriptor = { value: true };

/** Brings rows of a plain entity into an identity map, as MikroORM's factory would. */
export class PlainRows {
  readonly #em: EntityManager;
  readonly #meta: Meta;
  readonly #shape: Shape;
  readonly #schema: string | undefined;
  readonly #schemaName: string | undefined;
  readonly #uow: UnitOfWork;
  readonly #hydrator: ReturnType<EntityManager['config']['getHydrator']>;
  readonly #factory: EntityFactory;
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
    this.#uow = em.getUnitOfWork(false);
    this.#hydrator = em.config.getHydrator(em.getMetadata());
    this.#factory = em.getEntityFactory();
    this.#mayKnow = !areDistinct || this.#uow.getIdentityMap().getStore(meta).size > 0;
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
    const entity = this.#blank();
    this.#hydrate(entity, data, false);
    Object.setPrototypeOf(entity, this.#meta.prototype);
    this.#manage(entity, data, true);
    return entity;
  }

  /**
   * A new entity of the application's data, as `em.create()` makes it, known to no unit of work; `undefined` where the class
   * has something to run.
   */
  build(data: Readonly<Data>): object | undefined {
    if (!this.#shape.isEmptyClass) return undefined;
    const entity = this.#blank();
    this.#hydrate(entity, data, true);
    if (this.#em.config.get('processOnCreateHooksEarly')) this.#factory.assignDefaultValues(entity, this.#meta);
    return entity;
  }

  /**
   * Has a candidate itself, which was built for the row and belongs to no unit of work, become the entity of the row that
   * was made of it; `undefined` as in {@link load}.
   */
  adopt(candidate: object, row: Row): object | undefined {
    const data = this.#dataOf(row);
    if (!data) return undefined;
    // all of it: candidates may have been given one and the same Date, which each entity needs for itself
    this.#hydrate(candidate, data, false);
    // one that was blank stays behind another prototype until its values are all there
    if (this.#shape.isEmptyClass) Object.setPrototypeOf(candidate, this.#meta.prototype);
    this.#manage(candidate, data, false);
    return candidate;
  }

  #dataOf(row: Row): Data | undefined {
    const data = this.#em.getDriver().mapResult(row, this.#meta) as Data;
    if (!this.#mayKnow) return data;
    const known = this.#uow.getById(this.#meta.class as EntityName<object>, data[this.#shape.key], this.#schemaName);
    return known ? undefined : data;
  }

  #blank(): object {
    const entity = new this.#shape.Blank();
    helper(entity).__schema = this.#schemaName!;
    // all that ensurePropagation() defines where there are no relations
    return Object.defineProperty(entity, '__gettersDefined', defined);
  }

  #hydrate(entity: object, data: Data, isNew: boolean): void {
    const meta = this.#meta;
    this.#hydrator.hydrate(
      entity,
      meta,
      data,
      this.#factory,
      'full',
      isNew,
      !isNew,
      this.#schema,
      this.#schemaName,
      isNew,
    );
  }

  #manage(entity: object, data: Data, isLoad: boolean): void {
    const wrapped = helper(entity);
    this.#uow.register(entity, undefined, { loaded: isLoad });
    wrapped.__loadedProperties = this.#namesIn(data);
    wrapped.__originalEntityData = this.#snapshotOf(data);
    if (!isLoad) wrapped.populated();
  }

  /** A property that a cache region excludes isn't there, and must be loaded by the next query for the entity. */
  #namesIn(data: Data): Set<string> {
    const { names, allNames } = this.#shape;
    const given = names.filter((name) => data[name] !== undefined);
    return given.length === names.length ? allNames : new Set(given);
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
