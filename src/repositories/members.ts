import type { FilterQuery } from '@mikro-orm/core';
import type { CreationContext } from '../flows/call.js';
import type {
  CollectionOf,
  GetOrCreateResult,
  LookupOptions,
  ManyDefaults,
  ManyOptions,
  RelatedRepository,
  UpdateItem,
  UpdateOptions,
  Values,
  WarmUpOptions,
  Where,
} from '../types.js';

/** What every repository of this library adds to MikroORM's. */
export declare abstract class GetOrCreateMembers<E extends object> {
  /**
   * Finds the row that `where` names, or creates it from `where` and `defaults`, safely against every other writer.
   *
   * Outside a transaction it sends at most 1 statement for an existing row, 2 for a new one, 3 for a lost race, and no
   * BEGIN or SAVEPOINT (unless the class is atomic and overrides {@link createEntity}). Nothing else in the unit of
   * work is flushed; the entity is managed, fully loaded and clean.
   *
   * @param where plain equality on properties that a unique constraint covers
   * @param defaults further values of a new row; functions are called only when a row is created
   * @returns the managed entity, and whether this call created its row
   * @throws {LookupError} `where` or `defaults` can't be used; nothing was sent
   * @throws {MissingUniqueConstraintError} no unique constraint serves `where`; nothing was sent
   * @throws {MultipleRowsError} more than one row matches
   * @throws {TransactionContextError} the repository is outside the transaction that is open around the call
   * @throws MikroORM's own exceptions for what the database refuses (`UniqueConstraintViolationException`, …)
   *
   * ```ts
   * const [tag, created] = await em.getRepository(Tag).getOrCreate({ name: 'orm' }, { weight: 1 });
   * // select … where "t0"."name" = 'orm' limit 2
   * // insert into "tag" … on conflict ("name") do nothing returning …      (only when there was no row)
   * ```
   */
  getOrCreate(where: Where<E>, defaults?: Values<E>, options?: LookupOptions<E>): Promise<GetOrCreateResult<E>>;

  /**
   * {@link getOrCreate} for many lookups in the same number of statements; the lookups may name different properties.
   * A lookup that is named twice gives the same entity, `created` for the first only; the last defaults win.
   *
   * @returns in the order of `wheres`
   */
  getOrCreateMany(
    wheres: readonly Where<E>[],
    defaults?: ManyDefaults<E>,
    options?: ManyOptions<E>,
  ): Promise<GetOrCreateResult<E>[]>;

  /**
   * Changes the row that `where` names, or creates it, in one statement that always writes. Only the columns of
   * `values`, `onUpdate` properties and the version change; the row stays locked until the caller's transaction ends.
   * Fires `beforeUpsert` and `afterUpsert`. Other unflushed changes of a managed entity stay pending.
   *
   * @param where plain equality on properties that a unique constraint covers
   * @param values new values; they may change the natural key itself. A new row is `where` + `values`, or `where` +
   *   `options.createDefaults` when those are given
   * @returns the managed entity as the database holds it afterwards, and whether this call created its row
   * @throws as {@link getOrCreate}
   */
  updateOrCreate(where: Where<E>, values: Values<E>, options?: UpdateOptions<E>): Promise<GetOrCreateResult<E>>;

  /**
   * {@link updateOrCreate} for many rows in the same number of statements. Items for the same row have the effect of
   * running them in turn.
   *
   * @returns in the order of `items`
   */
  updateOrCreateMany(
    items: readonly UpdateItem<E>[],
    options?: Omit<UpdateOptions<E>, 'createDefaults'>,
  ): Promise<GetOrCreateResult<E>[]>;

  /**
   * Scopes {@link getOrCreate} and {@link updateOrCreate} to a collection of this repository's entity: a 1:M item gets
   * the collection's owner, an M:N item is linked to it in the same transaction. The owner must be in the database.
   *
   * ```ts
   * await em.getRepository(Tag).related(thing.tags).getOrCreate({ name: 'orm' });
   * ```
   */
  related(collection: CollectionOf<E>): RelatedRepository<E>;

  /**
   * Creates the row that a lookup didn't find: the point to override. An override may take keys of its own out of
   * `data`, call `super.createEntity()`, and get or create further rows with this repository or others of the same
   * EntityManager. In an atomic class all of it is one unit (a transaction, or a savepoint within the caller's): an
   * error or a lost race undoes it. When another writer was first, `super.createEntity()` doesn't return.
   *
   * @param data the values of the new row: `where` and `defaults`, with functions already called
   * @param context to be passed on to `super.createEntity()`
   */
  protected createEntity(data: Values<E>, context: CreationContext): Promise<E>;
}

/** What {@link AlwaysGetOrCreate} adds. */
export declare abstract class AlwaysMembers<E extends object> {
  /**
   * The entity that `where` names; its row is created when there is none. As `getOrCreate()`, without telling which.
   * With a `lockMode` it only reads, as `findOneOrFail()`: a read for write means a row that exists.
   */
  get(where: Where<E>, options?: LookupOptions<E>): Promise<E>;
}

/** What {@link CachedGetOrCreate} adds. */
export declare abstract class CachedMembers<E extends object> {
  /**
   * Removes an entity from the cache, for writes that the library can't see. Reads that began before can't put the old
   * row back.
   *
   * @param target a managed entity, or a lookup; a lookup other than by primary key asks the database for the key
   */
  evict(target: E | Where<E>): Promise<void>;

  /** Removes all entities of this repository's class from the cache. */
  evictAll(): Promise<void>;

  /**
   * Puts the rows that a query finds into the cache, with the lookups by their unique keys, in chunks: for a service
   * that is to start warm, or after an `evictAll()`. Reads what is committed, outside the caller's transaction. A row
   * that is written meanwhile isn't put back. A store that throws out what is least used keeps as much as it has room
   * for.
   *
   * ```ts
   * await em.getRepository(Tag).warmUp({ weight: { $gt: 10 } }, { onProgress: ({ done, total }) => … });
   * ```
   *
   * @param where a full query, as for `find()`; filters don't apply. Default: all rows
   * @returns how many rows were put into the store
   * @throws {ConfigurationError} when the entity can't be cached, or `chunkSize` is no positive integer
   * @throws {StoreError} when the store doesn't answer, or a relay that it needs doesn't listen
   */
  warmUp(where?: FilterQuery<E>, options?: WarmUpOptions): Promise<number>;
}
