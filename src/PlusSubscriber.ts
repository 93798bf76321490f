import {
  Utils,
  type EntityName,
  type EventArgs,
  type EventSubscriber,
  type FilterQuery,
  type FlushEventArgs,
  type TransactionEventArgs,
} from '@mikro-orm/core';
import type { EntityManager } from '@mikro-orm/postgresql';
import { originalKeyText, primaryKeyText } from './codec/primary-key.js';
import { resolveOptions, type PlusOptions, type ResolvedOptions } from './PlusOptions.js';
import { openRelay } from './open-relay.js';
import type { ResolvedRelay } from './config/relay-options.js';
import { RegionDirectory } from './RegionDirectory.js';
import { ConfigurationError } from './errors.js';
import type { CallOptions } from './flows/call.js';
import type { CacheSession } from './flows/cache-session.js';
import { lockAhead, lockForGood, lockTouched, releaseTouched } from './flows/commit.js';
import { effectiveSchema, keysMeant } from './flows/evict.js';
import { LookupCache, readOnlyError } from './flows/LookupCache.js';
import { warmUp } from './flows/warm-up.js';
import type { Relay } from './invalidation/relay/Relay.js';
import { TransactionRecord, TransactionRecords } from './invalidation/TransactionRecord.js';
import { onOrmClose } from './orm/close.js';
import type { EntityManager as AnyEntityManager } from './orm/context.js';
import { schemaOf } from './orm/entities.js';
import type { Meta } from './orm/metadata.js';
import { logCircuit } from './observability/log.js';
import type { RelayStatus } from './observability/relay-status.js';
import { newStatistics, sumStatistics, type Statistics } from './observability/statistics.js';
import type { Region } from './stores/Region.js';
import { StatisticsPublisher } from './stores/shared-statistics.js';
import type { WarmUpOptions } from './types.js';

/**
 * The cache of an ORM, and what keeps it honest: register one as a subscriber, and give entities a cached repository.
 *
 * ```ts
 * const plus = new PlusSubscriber({ stores: { default: 'memory://', redis: 'redis://localhost:6379' } });
 * const orm = await MikroORM.init({ entities: [Tag], clientUrl, subscribers: [plus] });
 * ```
 *
 * Rows that a transaction changes are soft-locked in their stores before its COMMIT and released after, so no reader
 * can see or keep the old row. Event handlers never throw, but for `onStoreFailure: 'reject'` before a commit.
 */
export class PlusSubscriber implements EventSubscriber {
  readonly #records = new TransactionRecords();
  readonly #counters = new Map<string, Statistics>();
  /** Failures of stores, which are no single entity's. */
  readonly #ofStores = newStatistics();
  readonly #regions: RegionDirectory;
  /** Units of work whose flush is under way, and is to have a transaction of its own. */
  readonly #flushing = new WeakSet<object>();
  /** Flushes without a transaction, by unit of work. */
  readonly #bracketed = new WeakMap<object, TransactionRecord>();
  /** Entities whose upsert is told by the flow that made it. */
  readonly #ownUpserts = new WeakSet<object>();
  readonly #options: ResolvedOptions;
  #relay: Relay | undefined;
  #publisher: StatisticsPublisher | undefined;
  #em: AnyEntityManager | undefined;

  /**
   * @throws {ConfigurationError} for an unknown option or a value that can't work; stores are opened at their first use
   */
  constructor(options: PlusOptions = {}) {
    this.#options = resolveOptions(options);
    this.#regions = new RegionDirectory(this.#options, {
      countersOf: (meta) => this.countersOf(meta),
      onStoreFailure: () => {
        this.#ofStores.storeFailures += 1;
      },
      ...(this.#options.relay && { isFollowed: (withinMs) => this.#relay?.isProven(withinMs) ?? false }),
      onCircuit: (alias, isOpen, cause) => {
        if (this.#em) logCircuit(this.#em.config.getLogger(), alias, isOpen, cause);
      },
    });
  }

  /** The instance registered with the ORM of an EntityManager. */
  static of(em: EntityManager): PlusSubscriber | undefined {
    for (const subscriber of em.getEventManager().getSubscribers()) {
      if (subscriber instanceof PlusSubscriber) return subscriber;
    }
    return undefined;
  }

  /**
   * Counters of lookups since start, of one entity class or of all.
   *
   * @returns a copy: `{ lookups, identityMapHits, nearCacheHits, storeHits, databaseHits, created, updated, racesLost,
   *   fills, refusedFills, softLocks, evictions, storeFailures }`
   */
  statistics<E extends object>(entity?: EntityName<E>): Statistics {
    if (entity === undefined) return sumStatistics([...this.#counters.values(), this.#ofStores]);
    return { ...(this.#counters.get(Utils.className(entity)) ?? newStatistics()) };
  }

  /**
   * Removes an entity from the cache, for writes that the library can't see. Reads that began before can't put the old
   * row back. What the store can't be told of is kept out of this process's reads, and removed when the store is back.
   *
   * @param target its primary key (an array or object if composite), or a lookup, which asks the database for the key
   * @throws {ConfigurationError} when no EntityManager of the ORM has been used with this subscriber yet
   */
  async evict<E extends object>(entity: EntityName<E>, target: unknown): Promise<void> {
    const em = this.#usedEntityManager().fork();
    const meta = em.getMetadata().get(entity) as unknown as Meta;
    const where = Utils.isPlainObject(target) ? target : keyObject(meta, target);
    await this.evictWhere(em, meta, em.schema, where);
  }

  /**
   * Removes all rows of one entity class from the cache, or of all cached ones.
   *
   * @throws {StoreError} when a store doesn't confirm it; its rows are bypassed in this process until it does
   */
  async evictAll<E extends object>(entity?: EntityName<E>): Promise<void> {
    const em = this.#usedEntityManager();
    const metas = entity === undefined ? [...em.getMetadata()] : [em.getMetadata().get(entity)];
    for (const meta of metas as unknown as Meta[]) await this.evictRegion(em, meta);
  }

  /**
   * Puts the rows that a query finds into the cache, as `warmUp()` of a cached repository, which says more.
   *
   * @returns how many rows were put into the store
   * @throws {ConfigurationError} when no EntityManager of the ORM has been used with this subscriber yet, or the entity
   *   can't be cached
   * @throws {StoreError} when the store doesn't answer, or a relay that it needs doesn't listen
   */
  async warmUp<E extends object>(
    entity: EntityName<E>,
    where?: FilterQuery<E>,
    options?: WarmUpOptions,
  ): Promise<number> {
    const em = this.#usedEntityManager().fork();
    const meta = em.getMetadata().get(entity) as unknown as Meta;
    return this.warmUpRegion(em, meta, options?.schema ?? em.schema, where, options);
  }

  /**
   * Answers if every store answers.
   *
   * @throws {StoreError} naming the first that doesn't
   */
  async ping(): Promise<void> {
    await this.#regions.ping();
  }

  /**
   * Meets the ORM now instead of at the first use of a cached repository, and connects the relay if there is to be one.
   *
   * ```ts
   * const orm = await MikroORM.init({ …, subscribers: [plus] });
   * await plus.start(orm);
   * ```
   *
   * @returns when the relay's first attempt to connect is over: `relayStatus()` tells how it went. If it failed, it is
   *   repeated in the background. The relay by itself doesn't keep the process alive
   * @throws {ConfigurationError} when the relay can't work with this driver or connection, or a region's options can't
   */
  async start(orm: { readonly em: EntityManager }): Promise<void> {
    this.#attach(orm.em);
    await this.#relay?.start();
  }

  /** How this process's relay is doing; `stopped` when it has none. */
  relayStatus(): RelayStatus {
    return this.#relay?.status ?? { role: 'stopped', listening: false, delivered: 0 };
  }

  /**
   * Stops the relay, and closes the stores that were opened from URLs; `orm.close()` calls it. The next use opens them
   * again.
   */
  async close(): Promise<void> {
    const relay = this.#relay;
    this.#relay = undefined;
    await relay?.close();
    this.#publisher?.stop();
    this.#publisher = undefined;
    await this.#regions.close();
  }

  /** @internal for the command line; `undefined` when this process is to have no relay */
  get relayOptions(): ResolvedRelay | undefined {
    return this.#options.relay;
  }

  /** @internal regions and stores, for the command line; starts nothing */
  get regions(): RegionDirectory {
    return this.#regions;
  }

  /** @internal the counters of an entity class */
  countersOf(meta: Meta): Statistics {
    let counters = this.#counters.get(meta.className);
    if (!counters) this.#counters.set(meta.className, (counters = newStatistics()));
    return counters;
  }

  /** @internal what a cached repository's call may do with the cache */
  openSession(
    em: AnyEntityManager,
    meta: Meta,
    schema: string | undefined,
    options: CallOptions,
  ): CacheSession | undefined {
    const region = this.#regionOf(em, meta);
    if (!region) return undefined;
    return new LookupCache({
      em,
      meta,
      schema,
      region,
      hints: this.#regions.hints,
      inTransaction: em.isInTransaction(),
      refresh: options.refresh === true,
      records: this.#records,
      ownUpserts: this.#ownUpserts,
    });
  }

  /** @internal removes what the database says a lookup means, and what the cache says it means: the row may be gone */
  async evictWhere(em: AnyEntityManager, meta: Meta, schema: string | undefined, where: unknown): Promise<void> {
    const region = this.#regionOf(em, meta);
    if (!region) return;
    const keys = await keysMeant(em, meta, schema, where, { region, hints: this.#regions.hints });
    await this.evictKeys(em, meta, schema, keys);
  }

  /** @internal removes rows by primary key text; in a transaction, which may have changed them, at its commit too */
  async evictKeys(
    em: AnyEntityManager,
    meta: Meta,
    schema: string | undefined,
    primaryKeys: readonly string[],
  ): Promise<void> {
    const region = this.#regionOf(em, meta);
    if (!region || primaryKeys.length === 0) return;
    const keys = primaryKeys.map((key) => region.objectKey(effectiveSchema(em, meta, schema), key));
    const record = this.#records.of(em.getTransactionContext());
    for (const key of keys) record?.touch(region, key);
    region.count('eviction', keys.length);
    await region.store.evictMany(keys.map((key) => ({ key, region: region.name })));
    region.near?.drop(keys);
  }

  /** @internal removes all rows of a table; in a transaction, which may have changed them, after its commit too */
  async evictRegion(em: AnyEntityManager, meta: Meta): Promise<void> {
    const region = this.#regionOf(em, meta);
    if (!region) return;
    this.#records.of(em.getTransactionContext())?.cleared.add(region);
    region.count('eviction');
    const hints = this.#regions.hints;
    await region.store.clear(region.name);
    if (hints !== region.store) await hints.clear(region.name);
    region.near?.dropAll();
  }

  /** @internal fills the region of an entity */
  async warmUpRegion(
    em: AnyEntityManager,
    meta: Meta,
    schema: string | undefined,
    where: FilterQuery<object> = {},
    { chunkSize = 1_000, onProgress, signal }: WarmUpOptions = {},
  ): Promise<number> {
    const region = this.#regionOf(em, meta);
    const entity = meta.className;
    if (!region || em.getSessionContext() !== undefined) {
      const reason = region ? 'in a session that sees only some rows' : 'it has no cache region, or its rows no keys';
      throw new ConfigurationError(`${entity} can't be warmed up: ${reason}.`, { entity });
    }
    if (!Number.isSafeInteger(chunkSize) || chunkSize < 1) {
      throw new ConfigurationError('chunkSize of warmUp() must be a positive integer.', { entity });
    }
    const { hints } = this.#regions;
    return warmUp({ em, meta, schema, region, hints, where, chunkSize, onProgress, signal });
  }

  beforeTransactionStart(args: TransactionEventArgs): void {
    this.#records.beforeStart(args);
  }

  afterTransactionStart(args: TransactionEventArgs): void {
    this.#records.afterStart(args);
  }

  // most of these return at once: MikroORM awaits what isn't a promise for less

  beforeTransactionCommit(args: TransactionEventArgs): void | Promise<void> {
    const record = this.#records.ofEnding(args.transaction);
    if (record) return lockTouched(record);
  }

  afterTransactionCommit(args: TransactionEventArgs): void | Promise<void> {
    return this.#end(args, 'committed');
  }

  afterTransactionRollback(args: TransactionEventArgs): void | Promise<void> {
    return this.#end(args, 'rolled-back');
  }

  beforeUpdate(args: EventArgs<object>): void | Promise<void> {
    const region = this.#writableRegionOf(args);
    if (region) return this.#touch(args, region);
  }

  beforeUpsert(args: EventArgs<object>): void {
    this.#writableRegionOf(args);
  }

  beforeDelete(args: EventArgs<object>): void | Promise<void> {
    const region = this.#regionOfEvent(args);
    if (region) return this.#touch(args, region);
  }

  afterUpsert(args: EventArgs<object>): void | Promise<void> {
    if (this.#ownUpserts.delete(args.entity)) return;
    const region = this.#regionOfEvent(args);
    if (region) return this.#touch(args, region);
  }

  beforeFlush(args: FlushEventArgs): void {
    if (args.em.isInTransaction()) this.#flushing.delete(args.uow);
    else this.#flushing.add(args.uow);
  }

  afterFlush(args: FlushEventArgs): void | Promise<void> {
    this.#flushing.delete(args.uow);
    return this.#endBracket(args.uow);
  }

  #end(args: TransactionEventArgs, outcome: 'committed' | 'rolled-back'): void | Promise<void> {
    const record = this.#records.ofEnding(args.transaction);
    this.#records.end(args.transaction);
    if (record) return releaseTouched(record, outcome);
  }

  #regionOfEvent({ em, meta }: EventArgs<object>): Region | undefined {
    return this.#regionOf(em as unknown as AnyEntityManager, meta as Meta);
  }

  /** @throws {ReadOnlyRegionError} for an update of a row that is promised never to change */
  #writableRegionOf(args: EventArgs<object>): Region | undefined {
    const region = this.#regionOfEvent(args);
    if (region?.options.strategy === 'read-only') throw readOnlyError(args.meta.className);
    return region;
  }

  /** Notes the row of a flush's change; without a transaction around it, it is soft-locked at once. */
  #touch(args: EventArgs<object>, region: Region): void | Promise<void> {
    const em = args.em as unknown as AnyEntityManager;
    const schema = schemaOf(em, args.entity);
    const [text, original] = [primaryKeyText(args.entity), originalKeyText(args.changeSet)];
    const texts = original === undefined || original === text ? [text] : [text, original];
    const keys = texts.map((each) => region.objectKey(schema, each));
    const transaction = em.getTransactionContext();
    const isCommitted = !transaction && args.changeSet === undefined;
    if (isCommitted) {
      // an upsert outside a transaction: there is nothing left to lock or to refuse
      return releaseTouched(recordOf(region, keys), 'committed');
    }
    const record = transaction ? this.#records.of(transaction) : this.#bracket(em.getUnitOfWork(false));
    if (!record) {
      // a transaction whose end won't be seen: the locks are left to run out
      return lockForGood(recordOf(region, keys));
    }
    for (const key of keys) record.touch(region, key);
    if (!transaction) return lockTouched(record);
    if (this.#flushing.has(em.getUnitOfWork(false))) lockAhead(record);
  }

  #bracket(write: object): TransactionRecord {
    let record = this.#bracketed.get(write);
    if (!record) this.#bracketed.set(write, (record = new TransactionRecord()));
    return record;
  }

  #endBracket(write: object): void | Promise<void> {
    const record = this.#bracketed.get(write);
    if (!record) return;
    this.#bracketed.delete(write);
    return releaseTouched(record, 'committed');
  }

  #regionOf(em: AnyEntityManager, meta: Meta): Region | undefined {
    this.#attach(em);
    return this.#regions.of(em, meta);
  }

  #attach(em: AnyEntityManager): void {
    if (!this.#em) {
      this.#em = em;
      onOrmClose(em, () => this.close());
    }
    if (this.#options.relay && !this.#relay) {
      this.#relay = openRelay(this.#em, this.#options.relay, this.#regions);
      // what goes wrong is in its status, and told by its channel
      this.#relay.start().catch(() => undefined);
    }
    this.#publisher ??= this.#publish(em);
  }

  /** @throws {ConfigurationError} when there is no Redis to publish statistics in */
  #publish(em: AnyEntityManager): StatisticsPublisher | undefined {
    const { shareStatistics } = this.#options;
    if (shareStatistics === undefined) return undefined;
    const access = this.#regions.redis;
    if (!access) {
      throw new ConfigurationError(
        'shareStatistics of PlusSubscriber needs a store in Redis: add one, or leave it out.',
      );
    }
    return new StatisticsPublisher(access, this.#regions.prefixOf(em), shareStatistics, () => ({
      entities: Object.fromEntries(this.#counters),
      stores: this.#ofStores,
    }));
  }

  #usedEntityManager(): AnyEntityManager {
    if (this.#em) return this.#em;
    throw new ConfigurationError(
      'PlusSubscriber has not met its ORM yet, since no cached repository was used: use repository.evict() or repository.evictAll().',
    );
  }
}

function keyObject(meta: Meta, key: unknown): Record<string, unknown> {
  const values = meta.primaryKeys.length === 1 ? [key] : (key as unknown[]);
  return Object.fromEntries(meta.primaryKeys.map((name, index) => [name, values[index]]));
}

function recordOf(region: Region, keys: readonly string[]): TransactionRecord {
  const record = new TransactionRecord();
  for (const key of keys) record.touch(region, key);
  return record;
}
