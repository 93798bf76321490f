import { databasePrefix, regionName } from './codec/keys.js';
import { declaredRegion } from './config/cache-region.js';
import { resolveRegion, type ResolvedRegion } from './config/region-options.js';
import { ConfigurationError } from './errors.js';
import { isCachedTable } from './invalidation/cached-tables.js';
import { InvalidationChannel } from './near-cache/InvalidationChannel.js';
import { NearCache } from './near-cache/NearCache.js';
import { publish } from './observability/channels.js';
import type { Statistics } from './observability/statistics.js';
import { databaseOf, type EntityManager } from './orm/context.js';
import type { Meta } from './orm/metadata.js';
import type { ResolvedOptions } from './PlusOptions.js';
import { GuardedStore, type StoreFailure } from './stores/GuardedStore.js';
import { openStore, type StoreSource } from './stores/open-store.js';
import { redisAccessOf } from './stores/redis/inspect.js';
import type { RedisAccess } from './stores/redis/redis-client.js';
import { Region, type RegionCopies } from './stores/Region.js';

/** Where a {@link RegionDirectory} tells what happens. */
export interface RegionDirectoryHost {
  countersOf(meta: Meta): Statistics;
  onStoreFailure(): void;
  /** A store is bypassed from now on, or asked again. */
  onCircuit(alias: string, isOpen: boolean, cause?: StoreFailure): void;
  /**
   * Whether changes that other processes made until so many milliseconds ago are known here, for rows that are in this
   * process's memory alone. Without it, nobody follows them.
   */
  isFollowed?(maxStalenessMs: number): boolean;
}

/** The regions of an ORM's tables, and the stores and near caches that they share; each is opened at its first use. */
export class RegionDirectory {
  readonly #options: ResolvedOptions;
  readonly #host: RegionDirectoryHost;
  /** By the root class of a table; `null` for tables without a region. */
  #regions = new WeakMap<Meta, Region | null>();
  #stores = new Map<string, GuardedStore>();
  #channels = new Map<string, InvalidationChannel>();
  #near: RegionCopies[] = [];

  constructor(options: ResolvedOptions, host: RegionDirectoryHost) {
    this.#options = options;
    this.#host = host;
  }

  /**
   * The region of an entity's table, if a repository of the table is cached and its rows can be.
   *
   * @throws {ConfigurationError} for options that can't work
   */
  of(em: EntityManager, meta: Meta): Region | undefined {
    const root = meta.root;
    let region = this.#regions.get(root);
    if (region === undefined) {
      region = this.#open(em, root) ?? null;
      this.#regions.set(root, region);
    }
    return region ?? undefined;
  }

  /** The store of lookup entries. */
  get hints(): GuardedStore {
    return this.#store('default');
  }

  /**
   * The store of an alias.
   *
   * @throws {ConfigurationError} when there is none, or it can't be opened
   */
  storeOf(alias: string): GuardedStore {
    return this.#store(alias);
  }

  get aliases(): string[] {
    return Object.keys(this.#options.stores);
  }

  /** The way to the first store in Redis, `default` first; where statistics are shared. */
  get redis(): RedisAccess | undefined {
    const aliases = ['default', ...this.aliases.filter((alias) => alias !== 'default')];
    return aliases.map((alias) => redisAccessOf(this.#store(alias).store)).find((access) => access !== undefined);
  }

  async ping(): Promise<void> {
    for (const alias of this.aliases) await this.#store(alias).ping();
  }

  /** Closes what was opened here; the next use opens it again. */
  async close(): Promise<void> {
    const [stores, channels, near] = [this.#stores, this.#channels, this.#near];
    this.#stores = new Map();
    this.#channels = new Map();
    this.#near = [];
    this.#regions = new WeakMap();
    for (const cache of near) cache.close();
    for (const channel of channels.values()) channel.close();
    await Promise.all([...stores.values()].map((store) => store.close()));
  }

  #open(em: EntityManager, root: Meta): Region | undefined {
    if (!isCachedTable(root, em.getMetadata(), em.config)) return undefined;
    const options = resolveRegion(`The cache region of ${root.className}`, declaredRegion(root), this.#options.regions);
    const store = this.#store(options.store, root.className);
    if (options.strategy === 'read-write' && !store.store.capabilities.softLocks) {
      throw new ConfigurationError(
        `The store '${options.store}' has no soft locks, so it can't keep the promise of the 'read-write' region of ` +
          `${root.className}: use another store, or the strategy 'nonstrict-read-write' or 'read-only'.`,
        { entity: root.className },
      );
    }
    const prefix = this.prefixOf(em);
    const name = regionName(prefix, root);
    const near = options.nearCache && this.#openNear(prefix, name, options);
    const { maxStaleness } = options;
    const host = this.#host;
    const isFollowed =
      host.isFollowed && !store.store.capabilities.shared ? () => host.isFollowed!(maxStaleness) : undefined;
    return new Region(root, { name, options, store, near, isFollowed, statistics: host.countersOf(root) });
  }

  #openNear(prefix: string, name: string, options: ResolvedRegion): RegionCopies {
    const near: RegionCopies = new NearCache({
      channel: this.#channel(prefix, options.store),
      prefix: `${name}:o:`,
      maxEntries: options.nearCache!.maxEntries,
      ttlMs: options.nearCache!.ttl,
      maxStalenessMs: options.maxStaleness,
    });
    this.#near.push(near);
    return near;
  }

  #channel(prefix: string, alias: string): InvalidationChannel {
    const key = `${alias}\0${prefix}`;
    let channel = this.#channels.get(key);
    if (!channel) {
      channel = new InvalidationChannel({
        store: this.#store(alias).store,
        source: this.#source(alias, 'a near cache'),
        prefix,
        onLost: (error) => publish('store', { store: alias, operation: 'tracking', error }),
      });
      this.#channels.set(key, channel);
    }
    return channel;
  }

  /** The start of every key of an ORM's. */
  prefixOf(em: EntityManager): string {
    if (this.#options.prefix !== undefined) return this.#options.prefix;
    const { host, port, name } = databaseOf(em);
    return databasePrefix(host, port, name);
  }

  #store(alias: string, user = 'PlusSubscriber'): GuardedStore {
    let store = this.#stores.get(alias);
    if (!store) {
      const source = this.#source(alias, user);
      store = new GuardedStore(alias, openStore(source), {
        timeoutMs: this.#options.timeout,
        owned: typeof source === 'string',
        onFailure: () => this.#host.onStoreFailure(),
        onCircuit: (isOpen, cause) => this.#host.onCircuit(alias, isOpen, cause),
      });
      this.#stores.set(alias, store);
    }
    return store;
  }

  #source(alias: string, user: string): StoreSource {
    const source = Object.hasOwn(this.#options.stores, alias) ? this.#options.stores[alias] : undefined;
    if (source !== undefined) return source;
    throw new ConfigurationError(
      `There is no store '${alias}' for ${user}: known are ${Object.keys(this.#options.stores).join(', ')}.`,
    );
  }
}
