import { ConfigurationError } from '../errors.js';

/**
 * How a region keeps its promise; the terms are Hibernate's.
 *
 * - `'read-only'`: rows never change. An update through the ORM is refused; deletes evict.
 * - `'nonstrict-read-write'`: once a commit has returned, other processes stop seeing the old row within
 *   `maxStaleness`, normally within milliseconds.
 * - `'read-write'`: a read that starts after a commit was acknowledged never sees an older row.
 */
export type RegionStrategy = 'read-only' | 'nonstrict-read-write' | 'read-write';

/** A bounded copy of a region's entries in each process. */
export interface NearCacheOptions {
  /** Entries kept, rows and lookups alike; the least recently used go first. Default: 1 000. */
  maxEntries?: number;
  /** Life of an entry in milliseconds; it adds to its life in the store. Default: 60 000. */
  ttl?: number;
}

/** How an entity's rows are cached. All times are in milliseconds. */
export interface RegionOptions {
  /** Alias of the store that holds the rows. Default: `'default'`. */
  store?: string;
  /** What readers are promised, see {@link RegionStrategy}. Default: `'read-write'`. */
  strategy?: RegionStrategy;
  /** Life of a cached row, from 1 ms. Default: 3 600 000 (an hour). Every entry expires some day. */
  ttl?: number;
  /** Properties that never enter the cache. They stay unloaded on an entity that came from it, and are never lost. */
  exclude?: readonly string[];
  /** How long a reader that missed may take to store the row. Default: 10 000. Must be less than `softLockTtl`. */
  leaseTtl?: number;
  /**
   * How long a row is bypassed when its writer dies between lock and release. Default: 30 000. A commit that takes
   * longer than `softLockTtl - leaseTtl` must not die before its release, so don't make it short.
   */
  softLockTtl?: number;
  /**
   * What a commit does when the store can't be told. `'bypass'` (default) commits, keeps the rows out of this process's
   * reads and tells the store as soon as it is back; `'reject'` fails the commit before it happens.
   */
  onStoreFailure?: 'bypass' | 'reject';
  /**
   * The longest that a copy in this process may be served after the row was changed elsewhere. Default: 1 000, at least
   * 100. Used by `nearCache`, and with `relay` by regions in this process's memory, which serve nothing if nothing
   * younger proves that they know all changes.
   */
  maxStaleness?: number;
  /**
   * Keep copies in this process, for `read-only` and `nonstrict-read-write` regions in Redis, whose server tells of
   * changes. Default: none.
   */
  nearCache?: NearCacheOptions;
}

/** Options of a region with nothing left open. */
export type ResolvedRegion = Readonly<Required<Omit<RegionOptions, 'nearCache'>>> & {
  readonly nearCache: Readonly<Required<NearCacheOptions>> | undefined;
};

const regionDefaults: ResolvedRegion = {
  store: 'default',
  strategy: 'read-write',
  ttl: 3_600_000,
  exclude: [],
  leaseTtl: 10_000,
  softLockTtl: 30_000,
  onStoreFailure: 'bypass',
  maxStaleness: 1_000,
  nearCache: undefined,
};

const nearCacheDefaults = { maxEntries: 1_000, ttl: 60_000 };

const strategies: readonly string[] = ['read-only', 'nonstrict-read-write', 'read-write'];

/** @throws {ConfigurationError} for an unknown option or a value that can't work */
export function resolveRegion(owner: string, options: RegionOptions, defaults?: ResolvedRegion): ResolvedRegion {
  refuseUnknown(owner, options, new Set(Object.keys(regionDefaults)));
  const given = withoutUndefined(options);
  const base = defaults ?? regionDefaults;
  const strategy = given.strategy ?? base.strategy;
  const inherited = strategy === 'read-write' ? undefined : base.nearCache;
  const nearCache = given.nearCache ? resolveNearCache(owner, given.nearCache) : inherited;
  const region: ResolvedRegion = { ...base, ...given, nearCache };
  for (const name of ['ttl', 'leaseTtl', 'softLockTtl', 'maxStaleness'] as const) {
    requireMilliseconds(owner, name, region[name]);
  }
  if (!strategies.includes(region.strategy)) {
    throw new ConfigurationError(
      `${owner}: there is no strategy '${region.strategy}'; known are ${strategies.join(', ')}.`,
    );
  }
  // as a default for all regions it is meant for those that can have one
  if (region.nearCache && region.strategy === 'read-write' && defaults) {
    throw new ConfigurationError(
      `${owner}: a read-write region can't have a near cache, whose copies may be ${region.maxStaleness} ms behind; ` +
        `use 'nonstrict-read-write', or leave nearCache out.`,
    );
  }
  if (region.onStoreFailure !== 'bypass' && region.onStoreFailure !== 'reject') {
    throw new ConfigurationError(`${owner}: onStoreFailure must be 'bypass' or 'reject'.`);
  }
  if (region.leaseTtl >= region.softLockTtl) {
    throw new ConfigurationError(
      `${owner}: leaseTtl (${region.leaseTtl}) must be less than softLockTtl (${region.softLockTtl}).`,
    );
  }
  return Object.freeze(region);
}

function resolveNearCache(owner: string, options: NearCacheOptions): Required<NearCacheOptions> {
  refuseUnknown(`${owner}.nearCache`, options, new Set(Object.keys(nearCacheDefaults)));
  const nearCache = { ...nearCacheDefaults, ...withoutUndefined(options) };
  requireMilliseconds(`${owner}.nearCache`, 'ttl', nearCache.ttl);
  if (!Number.isInteger(nearCache.maxEntries) || nearCache.maxEntries < 1) {
    throw new ConfigurationError(`${owner}.nearCache: maxEntries must be a whole number, 1 or more.`);
  }
  return nearCache;
}

function withoutUndefined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}

/** @throws {ConfigurationError} when `options` has a name that isn't known */
export function refuseUnknown(owner: string, options: object, known: ReadonlySet<string>): void {
  const unknown = Object.keys(options).find((name) => !known.has(name));
  if (unknown !== undefined) {
    throw new ConfigurationError(`${owner}: there is no option '${unknown}'; known are ${[...known].join(', ')}.`);
  }
}

/** @throws {ConfigurationError} when a value isn't a number of milliseconds */
export function requireMilliseconds(owner: string, name: string, value: unknown): void {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 1) {
    throw new ConfigurationError(
      `${owner}: ${name} must be a number of milliseconds, 1 or more; it is ${String(value)}.`,
    );
  }
}
