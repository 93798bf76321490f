import type { OnProgress } from './flows/progress.js';
import type { Collection, EntityData, EntityKey, FilterQuery, FindOneOptions, Raw } from '@mikro-orm/core';

/**
 * A lookup by plain equality: scalars, relations as entity or primary key, embeddables, `null`. It may name more
 * properties than a unique constraint; the row must match all of them.
 */
export type Where<E extends object> = { [K in EntityKey<E>]?: Exclude<EntityData<E>[K], Raw | undefined> };

/** A value, or a function that gives or promises it and is called only when the value is needed. */
export type Lazy<V> = V | (() => V | Promise<V>);

/** Values by property, as for `em.create()`; functions are called only when their value is needed. */
export type Values<E extends object> = { [K in EntityKey<E>]?: Lazy<EntityData<E>[K]> };

/** Values of new rows of a batch: one object for all, or a function of a lookup and its index. */
export type ManyDefaults<E extends object> = Values<E> | ((where: Where<E>, index: number) => Values<E>);

/** An entity, and whether this call created its row. */
export type GetOrCreateResult<E extends object> = [entity: E, created: boolean];

/** One item of `updateOrCreateMany()`. */
export interface UpdateItem<E extends object> {
  /** Names the row. */
  where: Where<E>;
  /** New values of an existing row, and of a new one unless `createDefaults` is given. */
  values: Values<E>;
  /** Values of a new row, instead of `values`. */
  createDefaults?: Values<E>;
}

/** Options of a lookup; those that MikroORM has too mean the same. */
export interface LookupOptions<E extends object> extends Pick<
  FindOneOptions<E>,
  'schema' | 'lockMode' | 'filters' | 'signal' | 'inflightQueryAbortStrategy'
> {
  /** Skip identity map and cache, and overwrite a known entity with the row, unflushed changes too. Default: false. */
  refresh?: boolean;
  /** Relations to load with the entity, as MikroORM's `populate`. */
  populate?: readonly string[] | boolean;
  /** A full query for the "get" half instead of `where`, past identity map and cache. */
  lookup?: FilterQuery<E>;
  /**
   * Take an advisory lock where no unique constraint serves the lookup, in a transaction: the caller's, or one of the
   * call's own, also in a non-atomic class. Default: false.
   */
  serialize?: boolean;
}

/** Options of `getOrCreateMany()`. */
export interface ManyOptions<E extends object> extends LookupOptions<E> {
  /**
   * Told how many of the distinct lookups are answered, after every statement that answered or created some. What it
   * throws ends the call, as an abort of `signal` does; rows created by an atomic class are then undone.
   */
  onProgress?: OnProgress;
}

/** Options of `warmUp()`. */
export interface WarmUpOptions {
  /** Rows that are read, and in memory, at a time. Default: 1000. */
  chunkSize?: number;
  /** The schema of the table, as MikroORM's option. */
  schema?: string;
  /** Told after each chunk; the rows are counted first, by one more statement. What it throws ends the warm-up. */
  onProgress?: OnProgress;
  /** Ends the warm-up, between two chunks or within a statement; what is in the store by then stays. */
  signal?: AbortSignal;
}

/** Options of `updateOrCreate()`. */
export interface UpdateOptions<E extends object> extends Pick<
  LookupOptions<E>,
  'schema' | 'signal' | 'populate' | 'serialize'
> {
  /** Values of a new row, instead of `values`; functions are called only when the row is new. */
  createDefaults?: Values<E>;
}

/** `getOrCreate` and `updateOrCreate` within one collection. */
export interface RelatedRepository<E extends object> {
  /** Finds an item by natural key, or creates it; a 1:M item gets the collection's owner, an M:N item is linked to it. */
  getOrCreate(where: Where<E>, defaults?: Values<E>, options?: LookupOptions<E>): Promise<GetOrCreateResult<E>>;
  /** Changes an item found by natural key, or creates it, with the same link to the collection's owner. */
  updateOrCreate(where: Where<E>, values: Values<E>, options?: UpdateOptions<E>): Promise<GetOrCreateResult<E>>;
}

/** A collection of items of type `E`, whoever owns it. */
export type CollectionOf<E extends object> = Collection<E, never> | Collection<E>;
